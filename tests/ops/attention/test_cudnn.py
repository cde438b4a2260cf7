"""cuDNN's attention as far as it can be tested without a GPU: what it is told, and its lowering."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.attention_calls import EveryOther, make_call

from jaxgen.ops.attention import cudnn
from jaxgen.ops.attention.biases import Alibi
from jaxgen.ops.attention.cudnn import cudnn_attention, cudnn_refusal
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.masks import Bidirectional, Causal, Window
from jaxgen.sharding.mesh import MeshConfig, make_mesh

fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
SEGMENTS = [[9, 20, 3], [32, 0], [1, 1, 30]]


def stand_in(q, k, v, q_seqlen, kv_seqlen, q_offsets, kv_offsets, mask_type, **settings):
    """What cuDNN's documentation says, segment by segment: [batch, length, heads, head_dim]."""
    for one, other in ((q_seqlen, kv_seqlen), (q_offsets, kv_offsets)):
        np.testing.assert_array_equal(one, other)
    assert k.shape == v.shape == q.shape
    out = np.full(q.shape, np.nan, np.float32)
    q, k, v = (np.asarray(x, np.float32) for x in (q, k, v))
    window = settings["sliding_window_length"] or q.shape[1]
    for row in range(len(q)):
        for first, size in zip(q_offsets[row], q_seqlen[row], strict=False):
            if size < 0:
                assert first == -1
                continue
            part = slice(first, first + size)
            behind = np.arange(size)[:, None] - np.arange(size)
            allowed = np.ones_like(behind, bool)
            if mask_type == fused.MaskType.PADDING_CAUSAL:
                allowed = (behind >= 0) & (behind < window)
            logits = np.einsum("qnd,snd->nqs", q[row, part], k[row, part])
            weights = np.where(allowed, np.exp(logits), 0)
            weights /= weights.sum(axis=-1, keepdims=True)
            out[row, part] = np.einsum("nqs,snd->qnd", weights, v[row, part])
    return jnp.array(out)


@pytest.mark.parametrize(
    ("predicates", "most"),
    [
        ((Causal(),), (3,)),
        ((Causal(), Window(5)), (2, 3)),
        ((Bidirectional(),), (3, 8)),
        ((Causal(),), (1, 2)),
    ],
)
def test_it_is_told_of_every_segment(monkeypatch, predicates, most):
    """With more segments in a row than there is room for, it is not asked."""
    call, asked = make_call(predicates, SEGMENTS), []

    def told(*operands, **settings):
        asked.append(settings)
        return stand_in(*operands, **settings)

    monkeypatch.setattr(fused, "dot_product_attention", told)
    monkeypatch.setattr(cudnn, "MAX_SEGMENTS", most)
    with jax.disable_jit():
        found = cudnn_attention(call)
    rooms = [settings["q_seqlen"].shape[1] for settings in asked]
    assert rooms == [3] * (3 in most)
    np.testing.assert_allclose(found, dense_attention(call), rtol=1e-5, atol=1e-6)


HALF = {"dtype": jnp.bfloat16}


@pytest.mark.parametrize(
    ("predicates", "settings", "why"),
    [
        ((Causal(),), {}, "bfloat16 and float16, not float32"),
        ((Causal(),), HALF | {"bias": Alibi()}, "no biases"),
        ((Causal(),), HALF | {"soft_cap": 2.0}, "no soft caps"),
        ((Causal(),), HALF | {"sinks": True}, "no sinks"),
        ((Causal(),), HALF | {"dims": (8, 16)}, "width 8 and 16 are not of one multiple of 8"),
        ((Causal(),), HALF | {"dims": (12, 12)}, "width 12 and 12 are"),
        ((Window(5),), HALF, r"or none, not \(Window\)"),
        ((Causal(), EveryOther()), HALF, r"not \(Causal, EveryOther\)"),
        ((Causal(),), HALF, "no GPU is here to ask"),
    ],
)
def test_what_it_cannot_compute_is_refused_with_the_reason(predicates, settings, why):
    refused = cudnn_refusal(make_call(predicates, SEGMENTS, **settings))
    assert refused is not None and re.search(why, refused)


def test_a_gpu_before_hopper_is_refused(monkeypatch):
    for capability, refused in (("8.0", True), ("9.0", False), ("gfx90a", True)):
        gpu = SimpleNamespace(platform="gpu", compute_capability=capability, device_kind="a GPU")
        monkeypatch.setattr(jax, "local_devices", lambda gpu=gpu: [gpu])
        assert (cudnn.device_refusal() is not None) == refused


def test_it_lowers_for_cuda_with_its_gradient(monkeypatch):
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91200)
    monkeypatch.setattr(fused, "check_compute_capability", lambda capability: True)
    call = make_call((Causal(), Window(5)), SEGMENTS[:2], **HALF)

    def loss(call):
        return cudnn_attention(call).astype(jnp.float32).sum()

    with jax.set_mesh(make_mesh(MeshConfig(data=2), jax.devices()[:2])):
        split = jax.device_put(call, jax.P("data"))
        traced = jax.jit(jax.grad(loss, allow_int=True)).trace(split)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "@__cudnn$fmhaSoftmax(" in text and "@__cudnn$fmhaSoftmaxBackward(" in text
    assert "sliding_window_length" in text and "PADDING_CAUSAL" in text
