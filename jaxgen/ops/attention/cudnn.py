"""cuDNN's flash attention on GPUs of NVIDIA from Hopper on, over packed rows.

cuDNN is told where each segment of a row begins and how long it is, so that no mask exists.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.attention.blockwise import Settings, blockwise_on_device
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, Bidirectional, Causal, Predicate, Window
from jaxgen.ops.attention.on_devices import on_each_device

MAX_SEGMENTS = (4, 32)
"""Segments of a row that there is room for, the smallest that suffices taken: room that is not used
costs as much as a third of the attention. A batch with more in a row goes block by block.
"""


def cudnn_refusal(call: AttentionCall) -> str | None:
    """Returns why cuDNN cannot compute a call, or None."""
    for is_there, name in (
        (call.bias is not None, "biases on the logits"),
        (call.soft_cap is not None, "soft caps"),
        (call.sinks is not None, "sinks"),
        (call.drops, "dropout that other implementations would repeat"),
    ):
        if is_there:
            return f"it takes no {name}"
    if call.query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it takes bfloat16 and float16, not {call.query.dtype}"
    width = call.query.shape[3]
    if width % 8 or width > 128 or call.value.shape[3] != width:
        widths = f"{width} and {call.value.shape[3]}"
        return f"heads of width {widths} are not of one multiple of 8 up to 128"
    if not call.mask.same_tokens:
        return "queries and keys are not the same tokens, whole and in order"
    if _kind(call.mask.predicates) is None:
        names = ", ".join(type(one).__name__ for one in call.mask.predicates)
        return f"its masks are causal, a window behind a query, or none, not ({names})"
    return device_refusal()


def device_refusal() -> str | None:
    """Returns why no GPU of this process has cuDNN's kernels for packed rows, or None."""
    gpus = [device for device in jax.local_devices() if device.platform == "gpu"]
    if not gpus:
        return "no GPU is here to ask what it can do"
    capability = str(getattr(gpus[0], "compute_capability", ""))
    if not capability.split(".")[0].isdigit() or float(capability) < 9:
        return f"packed rows need compute capability 9.0, and {gpus[0].device_kind} has not"
    return None


def cudnn_attention(call: AttentionCall) -> jax.Array:
    """Attends by cuDNN.

    Returns:
      [batch, heads, queries, value_dim].
    """
    return on_each_device(_on_device, call.query, call.key, call.value, call.mask)


def _on_device(query, key, value, mask: AttentionMask) -> jax.Array:
    ids = mask.queries.segment_ids
    # Padding at the end is a segment too.
    begins = jnp.concatenate([jnp.ones_like(ids[:, :1], bool), ids[:, 1:] != ids[:, :-1]], axis=1)

    def in_blocks(query, key, value):
        return blockwise_on_device(Settings(None), query, (key, value, None, None), mask, None)

    def packed(room, query, key, value):
        return _packed(query, key, value, begins, mask.predicates, room)

    most = jnp.max(jnp.sum(begins, axis=1))
    which = jnp.sum(most > jnp.array(MAX_SEGMENTS))
    ways = *(functools.partial(packed, room) for room in MAX_SEGMENTS), in_blocks
    return jax.lax.switch(which, ways, query, key, value)


def _packed(query, key, value, begins: jax.Array, predicates, room: int) -> jax.Array:
    from jax._src.cudnn import fused_attention_stablehlo as cudnn  # Not in jax.nn: the offsets.

    kind = _kind(predicates)
    assert kind is not None
    rows, number = jnp.arange(len(begins))[:, None], jnp.cumsum(begins, axis=1) - 1
    sizes = jnp.zeros((len(begins), room), jnp.int32).at[rows, number].add(1, mode="drop")
    firsts = jnp.full((len(begins), room + 1), -1, jnp.int32)
    nowhere = firsts.shape[1]
    places = jnp.arange(begins.shape[1], dtype=jnp.int32)[None]
    firsts = firsts.at[rows, jnp.where(begins, number, nowhere)].set(places, mode="drop")
    sizes = jnp.where(sizes == 0, -1, sizes)
    # Before jax 0.11 the offsets of fewer key heads than query heads point to other tokens.
    key, value = (jnp.repeat(x, query.shape[1] // x.shape[1], axis=1) for x in (key, value))
    mixed: Any = cudnn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (query, key, value)),
        q_seqlen=sizes,
        kv_seqlen=sizes,
        q_offsets=firsts,
        kv_offsets=firsts,
        mask_type=cudnn.MaskType.PADDING_CAUSAL if kind.causal else cudnn.MaskType.PADDING,
        sliding_window_length=kind.window,
    )
    return mixed.swapaxes(1, 2)


class _Kind(NamedTuple):
    """The masks that cuDNN has.

    Attributes:
      causal: whether no key after the query is attended to.
      window: how many keys up to the query are, or None.
    """

    causal: bool
    window: int | None


def _kind(predicates: tuple[Predicate, ...]) -> _Kind | None:
    """Returns what cuDNN is told of a mask, or None where it has no such mask."""
    causal = Causal() in predicates
    windows = [one.size for one in predicates if isinstance(one, Window)]
    known = all(isinstance(one, Causal | Window | Bidirectional) for one in predicates)
    if not known or (windows and not causal):
        return None
    return _Kind(causal, min(windows, default=None))
