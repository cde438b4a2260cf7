"""Attention a block of queries and a block of keys at a time: memory is linear in the length.

Blocks that the mask's predicates rule out by distance alone are left out. The backward pass
computes the logits again, so that nothing of a block outlives it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.attention.biases import toeplitz
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, AttentionSide
from jaxgen.ops.attention.on_devices import on_each_device
from jaxgen.ops.attention.online import (
    RunningSoftmax,
    block_gradients,
    block_logits,
    finish,
    fold,
    start,
)

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
    settings, bias, places = Settings(call.soft_cap), None, None
    if call.bias is not None:
        count = max(call.query.shape[2], call.key.shape[2]) + BLOCK
        bias = call.bias.by_distance(count)
        places = (call.bias.queries, call.bias.keys)
        settings = Settings(call.soft_cap, call.bias.consecutive, call.bias.table is not None)
    operands = (call.key, call.value, call.sinks, bias)
    compute = functools.partial(blockwise_on_device, settings)
    return on_each_device(compute, call.query, operands, call.mask, places)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is known of a call when it is traced.

    Attributes:
      soft_cap: see `AttentionCall`.
      consecutive: whether biases are by the places of a row.
      learned: whether biases have a gradient.
    """

    soft_cap: float | None
    consecutive: bool = True
    learned: bool = False


class _Operands(NamedTuple):
    """Arrays with gradients, in whole blocks.

    Attributes:
      query: [batch, kv_heads, group, queries, head_dim].
      key: [batch, kv_heads, keys, head_dim].
      value: [batch, kv_heads, keys, value_dim].
      sinks: [kv_heads, group], or None.
      bias: [heads, distances] with distance 0 in the middle, or None.
    """

    query: Any
    key: Any
    value: Any
    sinks: Any
    bias: Any


class _Tokens(NamedTuple):
    """Which tokens the queries and keys are: for the mask, and [1 or batch, ...] for the bias."""

    mask: AttentionMask
    queries: Any
    keys: Any


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
    query, key, value = (_fill(x, 2) for x in (query, key, value))
    query = query.reshape(batch, kv_heads, heads // kv_heads, -1, head_dim)
    sinks = None if sinks is None else sinks.reshape(kv_heads, -1)
    sides = _fill_side(mask.queries, _NO_QUERY), _fill_side(mask.keys, _NO_KEY)
    mask = dataclasses.replace(mask, queries=sides[0], keys=sides[1])
    tokens = _Tokens(mask, *(None, None) if places is None else (_fill(x, 1) for x in places))
    out: jax.Array = _attend(settings, _Operands(query, key, value, sinks, bias), tokens)
    return out.reshape(batch, heads, -1, value.shape[-1])[:, :, :queries]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(settings: Settings, operands: _Operands, tokens: _Tokens) -> jax.Array:
    return _forward(settings, operands, tokens)[0]


def _forward(settings: Settings, operands: _Operands, tokens: _Tokens):
    query, key, value, sinks, bias = operands

    def step(running: RunningSoftmax, pair):
        i, j = pair
        part = jax.tree.map(lambda x: _block(x, i, 3), running)
        logits = block_logits(
            _block(query, i, 3),
            _block(key, j, 2),
            _allowed(tokens.mask, i, j),
            _bias(settings, bias, tokens, query.shape, i, j),
            settings.soft_cap,
        )
        part = fold(part, logits.masked, _block(value, j, 2))
        return jax.tree.map(lambda x, new: _put(x, new, i, 3), running, part), None

    running, _ = jax.lax.scan(step, start(query, value.shape[-1]), _pairs(tokens.mask))
    out, log_total = finish(running, sinks)
    out = out.astype(value.dtype)
    return out, (operands, tokens, out, log_total)


def _backward(settings: Settings, saved, gradient: jax.Array):
    operands, tokens, out, log_total = saved
    query, key, value, sinks, bias = operands
    inner = jnp.sum(out.astype(jnp.float32) * gradient, axis=-1)

    def step(sums: _Operands, pair):
        i, j = pair
        rows = [_block(x, i, 3) for x in (query, log_total, gradient, inner)]
        columns = _block(key, j, 2), _block(value, j, 2)
        bias_of = functools.partial(_bias, settings, tokens=tokens, shape=query.shape, i=i, j=j)
        biased, to_bias = jax.vjp(bias_of, bias)
        allowed = _allowed(tokens.mask, i, j)
        logits = block_logits(rows[0], columns[0], allowed, biased, settings.soft_cap)
        parts = block_gradients(rows[0], *columns, logits, settings.soft_cap, *rows[1:])
        sums = sums._replace(
            query=_add(sums.query, parts.query, i, 3),
            key=_add(sums.key, parts.key, j, 2),
            value=_add(sums.value, parts.value, j, 2),
        )
        if settings.learned and biased is not None:
            over_batch = parts.bias if biased.shape[0] > 1 else parts.bias.sum(0, keepdims=True)
            sums = sums._replace(bias=sums.bias + to_bias(over_batch)[0])
        return sums, None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), operands)
    sums, _ = jax.lax.scan(step, zeros, _pairs(tokens.mask))
    if sinks is not None:
        # A sink takes the weight exp(sink - log_total), and gives nothing.
        shares = jnp.exp(sinks[..., None] - log_total)
        sums = sums._replace(sinks=-jnp.sum(shares * inner, axis=(0, 3)))
    return jax.tree.map(lambda total, x: total.astype(x.dtype), sums, operands), None


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


def _allowed(mask: AttentionMask, i, j) -> jax.Array:
    """Returns a block of the mask, [batch, 1, 1, queries, keys]."""
    queries, keys = (
        jax.tree.map(lambda x, n=n: _block(x, n, 1), side)
        for side, n in ((mask.queries, i), (mask.keys, j))
    )
    return dataclasses.replace(mask, queries=queries, keys=keys).dense()[:, None, None]


def _bias(settings: Settings, bias, tokens: _Tokens, shape, i, j) -> jax.Array | None:
    """Returns a block of the bias, [1 or batch, kv_heads, group, queries, keys], or None."""
    if bias is None:
        return None
    middle = bias.shape[1] // 2
    queries, keys = _size(tokens.queries.shape[1]), _size(tokens.keys.shape[1])
    if settings.consecutive:
        start = middle + j * keys - i * queries - (queries - 1)
        values = jax.lax.dynamic_slice_in_dim(bias, start, queries + keys - 1, 1)
        block = toeplitz(values, queries)[None]
    else:
        distances = _block(tokens.keys, j, 1)[:, None, :] - _block(tokens.queries, i, 1)[:, :, None]
        # Farther ones are of different segments.
        block = bias[:, jnp.clip(distances + middle, 0, bias.shape[1] - 1)].swapaxes(0, 1)
    return block.reshape(block.shape[0], *shape[1:3], queries, keys)


def _size(length: int) -> int:
    return min(length, BLOCK)


def _block(x: jax.Array, index, axis: int) -> jax.Array:
    size = _size(x.shape[axis])
    return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)


def _put(x: jax.Array, part: jax.Array, index, axis: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, part, index * part.shape[axis], axis)


def _add(x: jax.Array, part: jax.Array, index, axis: int) -> jax.Array:
    return _put(x, _block(x, index, axis) + part, index, axis)


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
