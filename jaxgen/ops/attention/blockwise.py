"""Attention a block of queries and a block of keys at a time: memory is linear in the length.

Blocks that the mask's predicates rule out by distance alone are left out.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.attention.blocks import (
    Operands,
    Settings,
    Tokens,
    add_block,
    as_gradients,
    block,
    differentiate_block,
    fold_block,
    outcome_of,
    put_block,
    settings_and_bias,
    told_late,
    zeros_like,
)
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, AttentionSide
from jaxgen.ops.attention.on_devices import on_each_device
from jaxgen.ops.attention.online import RunningSoftmax, finish, start

BLOCK = 256
"""Queries and keys of a block; its logits should stay in a core's cache."""

_NO_KEY, _NO_QUERY = -2, -3  # Segments of what fills the last blocks.


def blockwise_refusal(call: AttentionCall) -> str | None:
    """Returns why a call cannot be computed in blocks, or None."""
    return "which weights are dropped would depend on the blocks" if call.drops else None


def blockwise_attention(call: AttentionCall) -> jax.Array:
    """Attends with logits and softmax in float32; a query without any key gets 0.

    Returns:
      [batch, heads, queries, value_dim].
    """
    farthest = max(call.query.shape[2], call.key.shape[2]) + BLOCK
    settings, bias, places = settings_and_bias(call, farthest)
    operands = (call.key, call.value, call.sinks, bias)
    compute = functools.partial(blockwise_on_device, settings)
    return on_each_device(compute, call.query, operands, call.mask, places)


def blockwise_on_device(
    settings: Settings, query, operands, mask: AttentionMask, places
) -> jax.Array:
    """Returns what `blockwise_attention` does, of one device's parts.

    Args:
      settings: of the call.
      query: [batch, heads, queries, head_dim].
      operands: key, value, sinks and the bias by distance, the last two perhaps None.
      mask: of these queries and keys.
      places: positions of queries and of keys that the bias is by, or None.
    """
    key, value, sinks, bias = operands
    batch, heads, queries, head_dim = query.shape
    kv_heads = key.shape[1]
    settings = dataclasses.replace(settings, sizes=(_size(queries), _size(key.shape[2])))
    query, key, value = (_fill(x, 2) for x in (query, key, value))
    query = query.reshape(batch, kv_heads, heads // kv_heads, -1, head_dim)
    sinks = None if sinks is None else sinks.reshape(kv_heads, -1)
    sides = _fill_side(mask.queries, _NO_QUERY), _fill_side(mask.keys, _NO_KEY)
    mask = dataclasses.replace(mask, queries=sides[0], keys=sides[1])
    tokens = Tokens(mask, *(None, None) if places is None else (_fill(x, 1) for x in places))
    out: jax.Array = _attend(settings, Operands(query, key, value, sinks, bias), tokens)
    return out.reshape(batch, heads, -1, value.shape[-1])[:, :, :queries]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(settings: Settings, operands: Operands, tokens: Tokens) -> jax.Array:
    return _forward(settings, operands, tokens)[0]


def _forward(settings: Settings, operands: Operands, tokens: Tokens):
    def step(running: RunningSoftmax, pair):
        i, j = pair
        part = jax.tree.map(lambda x: block(x, i, settings.sizes[0], 3), running)
        part = fold_block(settings, operands, tokens, part, i, j)
        return jax.tree.map(lambda x, new: put_block(x, new, i, 3), running, part), None

    begun = start(operands.query, operands.value.shape[-1])
    running, _ = jax.lax.scan(step, begun, told_late(_pairs(tokens.mask), operands.query))
    out, log_total = finish(running, operands.sinks)
    out = out.astype(operands.value.dtype)
    return out, (operands, tokens, out, log_total)


def _backward(settings: Settings, saved, gradient: jax.Array):
    operands, tokens, out, log_total = saved
    outcome = outcome_of(out, log_total, gradient)

    def step(sums: Operands, pair):
        parts = differentiate_block(settings, operands, tokens, outcome, *pair)
        return add_block(settings, sums, parts, *pair), None

    sums, _ = jax.lax.scan(step, zeros_like(operands), told_late(_pairs(tokens.mask), gradient))
    return as_gradients(sums, operands, outcome), None


_attend.defvjp(_forward, _backward)


def _pairs(mask: AttentionMask) -> tuple[np.ndarray, np.ndarray]:
    """Returns the blocks (of queries, of keys) in which some key may be allowed."""
    lengths = mask.queries.segment_ids.shape[1], mask.keys.segment_ids.shape[1]
    sizes = [_size(length) for length in lengths]
    first, last = (np.arange(0, n, size) for n, size in zip(lengths, sizes, strict=True))
    behind = first[:, None] - last[None, :]
    possible = mask.may_allow(np.arange(1 - lengths[1], lengths[0]))
    before = np.concatenate([[0], np.cumsum(possible)])
    nearest = behind - (sizes[1] - 1) + lengths[1] - 1
    farthest = behind + (sizes[0] - 1) + lengths[1] - 1
    pairs = np.argwhere(before[farthest + 1] > before[nearest]).astype(np.int32)
    return pairs[:, 0], pairs[:, 1]


def _size(length: int) -> int:
    return min(length, BLOCK)


def _fill(x: jax.Array, axis: int) -> jax.Array:
    """Returns the array with as many zeros behind it as its last block lacks."""
    missing = -x.shape[axis] % _size(x.shape[axis])
    if not missing:
        return x
    return jnp.pad(x, [(0, missing if axis == one else 0) for one in range(x.ndim)])


def _fill_side(side: AttentionSide, segment: int) -> AttentionSide:
    missing = -side.segment_ids.shape[1] % _size(side.segment_ids.shape[1])
    filled = jax.tree.map(lambda x: _fill(x, 1), side)
    if not missing:
        return filled
    is_token = jnp.arange(filled.segment_ids.shape[1]) < side.segment_ids.shape[1]
    return dataclasses.replace(filled, segment_ids=jnp.where(is_token, filled.segment_ids, segment))
