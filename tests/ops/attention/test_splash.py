"""Splash attention: the kernel's steps against dense attention, refusals, compilation for TPU."""

import dataclasses
import functools
import importlib.util
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.attention_calls import EveryOther, assert_as_dense, make_call, packed_side

from jaxgen.errors import ConfigError
from jaxgen.ops.attention import attend as attend_module
from jaxgen.ops.attention import splash_kernel
from jaxgen.ops.attention.attend import attend
from jaxgen.ops.attention.biases import Alibi
from jaxgen.ops.attention.masks import (
    AttentionMask,
    Banded,
    Bidirectional,
    BlockCausal,
    Causal,
    Chunked,
    Window,
)
from jaxgen.ops.attention.splash import splash_attention, splash_refusal, splash_slower
from jaxgen.planning.topology import parse_topology
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MESH_AXES, MeshConfig, make_mesh
from jaxgen.sharding.rules import compiled_for

INTERPRETED = functools.partial(splash_attention, interpret=True)


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("predicates", "settings"),
    [
        ((Causal(), Window(50)), {"sinks": True, "soft_cap": 2.0}),
        slow((Causal(), Chunked(40)), {"kv_heads": 1, "dims": (8, 16)}),
        slow((Causal(),), {"soft_cap": 2.0, "kv_heads": 4}),
        slow((Causal(), Window(20) | Banded(50)), {}),
        slow((Banded(30),), {"sinks": True}),
        slow((Chunked(130),), {}),
        slow((Bidirectional(),), {"dtype": jnp.bfloat16}),
        slow((), {}),
    ],
)
def test_its_steps_give_dense_attention_and_its_gradients(monkeypatch, predicates, settings):
    """In 3 by 3 blocks, some of which a window leaves out."""
    monkeypatch.setattr(splash_kernel, "BLOCKS", (128,))
    call = make_call(predicates, [[90, 200, 94], [384, 0]], **settings)
    assert splash_refusal(call) is None
    assert_as_dense(call, INTERPRETED, 0.03 if "dtype" in settings else 1e-5)


@pytest.mark.parametrize(
    ("predicates", "settings"),
    [((Causal(),), {"sinks": True}), slow((), {"dims": (8, 16)}), slow((Banded(30),), {})],
)
def test_a_length_that_is_no_multiple_of_128_is_filled_up(predicates, settings):
    call = make_call(predicates, [[90, 101, 9], [200, 0]], **settings)
    assert splash_refusal(call) is None and splash_slower(call) is None
    assert_as_dense(call, INTERPRETED)


def test_mostly_filling_is_left_to_others():
    """77 tokens of a caption would be 128; 100 are most of them."""
    of_77, of_100 = (make_call((Causal(),), [[length]]) for length in (77, 100))
    assert splash_slower(of_77) == "it fills 77 queries and 77 keys up to multiples of 128"
    assert splash_slower(of_100) is None


@pytest.mark.slow
def test_keys_of_another_length():
    call = make_call((), [[100, 28]])
    keys = packed_side([[200, 56]])
    key, value = (jnp.concatenate([x, -x], axis=2) for x in (call.key, call.value))
    mask = AttentionMask((), call.mask.queries, keys)
    assert_as_dense(dataclasses.replace(call, key=key, value=value, mask=mask), INTERPRETED)


def test_a_block_of_a_mask_is_that_part_of_the_whole():
    mask = splash_kernel.PlaceMask((Causal(), Window(9) | Banded(3)), (40, 50))
    side = packed_side([[50, 0]])
    predicates = AttentionMask(mask.predicates, side[:40], side, same_tokens=True)
    whole = np.asarray(predicates.dense()[0])
    for rows, columns in ((slice(0, 40), slice(0, 50)), (slice(8, 24), slice(10, 18))):
        np.testing.assert_array_equal(mask[rows, columns], whole[rows, columns])
    places = mask.q_sequence[:, None], np.arange(50)[None]
    np.testing.assert_array_equal(mask.mask_function(*places), whole)
    assert mask == splash_kernel.PlaceMask(mask.predicates, mask.size) and hash(mask)


@pytest.mark.parametrize(
    ("predicates", "changes", "why"),
    [
        ((Causal(),), {"bias": Alibi()}, "it knows no bias"),
        ((Causal(), EveryOther()), {}, r"EveryOther\(\) is of more than distances and groups"),
        ((BlockCausal(),), {}, "BlockCausal.. is of more than"),
        ((Causal(), Chunked(9) | Window(5)), {}, "Either.* is of more than"),
        ((Causal(), Chunked(9), Chunked(4)), {}, "by one predicate only"),
    ],
)
def test_what_it_cannot_compute_is_refused_with_the_reason(predicates, changes, why):
    call = make_call(predicates, **({"segments": [[128]]} | changes))
    with for_tpu(), using(Layout(attention="splash")), pytest.raises(ConfigError, match=why):
        attend(call)


def for_tpu():
    """A mesh of one TPU that is not here, in force."""
    device = jax.sharding.AbstractDevice("TPU v5 lite", num_cores=1, platform="tpu")
    axes = (jax.sharding.AxisType.Explicit,) * len(MESH_AXES)
    mesh = jax.sharding.AbstractMesh((1,) * len(axes), MESH_AXES, axes, abstract_device=device)
    return jax.sharding.use_abstract_mesh(mesh)


def test_the_platform_is_that_of_the_mesh_and_not_that_of_this_process(caplog):
    attend_module._log.cache_clear()
    call = make_call((Causal(),), [[128]])
    split = dataclasses.replace(call.mask, same_tokens=False)
    drops = dataclasses.replace(call, dropout_rate=0.1, dropout_key=jax.random.key(0))
    with using(Layout()), caplog.at_level(logging.INFO):
        for one in (call, dataclasses.replace(call, mask=split), drops):
            with for_tpu():
                assert compiled_for() == "tpu"
                jax.eval_shape(lambda call: attend(call), one)
        assert compiled_for() == "cpu"
        with using(Layout(attention="splash")), pytest.raises(ConfigError, match="runs on tpu"):
            attend(call)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "attention is computed by 'splash': the first for tpu."
    assert "'dense': not splash (its mask is by places, and here queries and keys" in said[1]
    assert "'dense': not splash (it drops no weights), blockwise (which weights" in said[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize(
    ("dims", "kv_heads", "length"),
    [((128, 128), 2, 2048), ((192, 128), 4, 2048), ((64, 64), 1, 2048), ((64, 64), 4, 1500)],
)
def test_its_kernels_are_in_the_program_of_a_tpu(dims, kv_heads, length):
    segments = [[1000, length - 1000]] * 4
    call = make_call((Causal(), Window(700)), segments, 4, kv_heads, dims, dtype=jnp.bfloat16)
    mesh = make_mesh(MeshConfig(data=4, tensor=2), parse_topology("v5e:2x4").devices())

    def place(spec, tree):
        sharding = jax.NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    heads, rows = jax.P("data", "tensor"), jax.P("data")
    placed = dataclasses.replace(
        call,
        query=place(heads, call.query),
        key=place(rows if kv_heads == 1 else heads, call.key),
        value=place(rows if kv_heads == 1 else heads, call.value),
        mask=place(rows, call.mask),
    )

    def loss(call):
        with using(Layout()):
            return attend(call).astype(jnp.float32).sum()

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        compiled: Any = jax.jit(jax.grad(loss, allow_int=True)).lower(placed).compile()
    text = compiled.as_text()
    assert text is not None
    # The forward pass, the gradient of the queries, and that of keys and values.
    assert text.count("tpu_custom_call") == 3
    assert all(f"splash_mha_{name}" in text for name in ("fwd", "dq", "dkv"))
    # No logits: 4 rows of 4 heads over 8 devices.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 // 8 * length**2
