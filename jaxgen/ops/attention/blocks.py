"""One block of queries against one block of keys: the steps of attention that goes block by block.

The logits of a block are computed again for its gradients, so that nothing of it outlives it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.ops.attention.biases import toeplitz
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask
from jaxgen.ops.attention.online import RunningSoftmax, block_gradients, block_logits, fold


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is known of an attention when it is traced.

    Attributes:
      soft_cap: see `AttentionCall`.
      consecutive: whether biases are by the places of a row, one after another.
      learned: whether biases have a gradient.
      sizes: of a block, in queries and in keys.
    """

    soft_cap: float | None
    consecutive: bool = True
    learned: bool = False
    sizes: tuple[int, int] = (1, 1)


class Operands(NamedTuple):
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


class Tokens(NamedTuple):
    """Which tokens the queries and keys are: for the mask, and [1 or batch, ...] for the bias."""

    mask: AttentionMask
    queries: Any
    keys: Any


class Outcome(NamedTuple):
    """What the backward pass needs of the forward one, each [batch, kv_heads, group, queries, ...].

    Attributes:
      log_total: of `online.finish`.
      gradient: of the output.
      inner: the output times its gradient, summed over its last axis.
    """

    log_total: jax.Array
    gradient: jax.Array
    inner: jax.Array


def outcome_of(out: jax.Array, log_total: jax.Array, gradient: jax.Array) -> Outcome:
    """Returns what the backward pass needs, of an output and its gradient."""
    return Outcome(log_total, gradient, jnp.sum(out.astype(jnp.float32) * gradient, axis=-1))


def settings_and_bias(call: AttentionCall, farthest: int) -> tuple[Settings, Any, Any]:
    """Returns settings, the bias by distance and the positions it is by, the last two perhaps None.

    Args:
      call: of attention.
      farthest: more than the largest distance that there is.
    """
    if call.bias is None:
        return Settings(call.soft_cap), None, None
    settings = Settings(call.soft_cap, call.bias.consecutive, call.bias.table is not None)
    return settings, call.bias.by_distance(farthest), (call.bias.queries, call.bias.keys)


def fold_block(
    settings: Settings, operands: Operands, tokens: Tokens, part: RunningSoftmax, i, j
) -> RunningSoftmax:
    """Returns the state of the queries of block `i` after the keys of block `j`."""
    query, key, value = _blocks(settings, operands, i, j)
    bias = _bias(settings, operands.bias, tokens, operands.query.shape, i, j)
    allowed = _allowed(settings, tokens.mask, i, j)
    logits = block_logits(query, key, allowed, bias, settings.soft_cap)
    return fold(part, logits.masked, value)


def differentiate_block(
    settings: Settings, operands: Operands, tokens: Tokens, outcome: Outcome, i, j
) -> Operands:
    """Returns what blocks `i` and `j` add to their gradients, in float32.

    That of the bias is whole, and None of one without a gradient, as it is of the sinks.
    """
    query, key, value = _blocks(settings, operands, i, j)
    rows = [block(x, i, settings.sizes[0], 3) for x in outcome]
    bias_of = functools.partial(
        _bias, settings, tokens=tokens, shape=operands.query.shape, i=i, j=j
    )
    biased, to_bias = jax.vjp(bias_of, operands.bias)
    allowed = _allowed(settings, tokens.mask, i, j)
    logits = block_logits(query, key, allowed, biased, settings.soft_cap)
    parts = block_gradients(query, key, value, logits, settings.soft_cap, *rows)
    bias = None
    if settings.learned and biased is not None:
        bias = to_bias(parts.bias if biased.shape[0] > 1 else parts.bias.sum(0, keepdims=True))[0]
    return Operands(parts.query, parts.key, parts.value, None, bias)


def add_block(settings: Settings, sums: Operands, parts: Operands, i, j) -> Operands:
    """Returns sums of gradients with those of blocks `i` and `j`."""
    queries, keys = settings.sizes
    return sums._replace(
        query=_add(sums.query, parts.query, i, queries, 3),
        key=_add(sums.key, parts.key, j, keys, 2),
        value=_add(sums.value, parts.value, j, keys, 2),
        bias=sums.bias if parts.bias is None else sums.bias + parts.bias,
    )


def as_gradients(sums: Operands, operands: Operands, outcome: Outcome) -> Operands:
    """Returns the gradients of the operands, of the sums over all blocks."""
    if operands.sinks is not None:
        # A sink takes the weight exp(sink - log_total), and gives nothing.
        shares = jnp.exp(operands.sinks[..., None] - outcome.log_total)
        sums = sums._replace(sinks=-jnp.sum(shares * outcome.inner, axis=(0, 3)))
    return jax.tree.map(lambda total, x: total.astype(x.dtype), sums, operands)


def zeros_like(operands: Operands) -> Operands:
    """Returns sums of gradients before the first block."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), operands)


def told_late(pairs: Any, x: jax.Array) -> Any:
    """Returns the blocks to go through, as values that are not known before an array of the pass.

    What follows from them alone, such as the mask, would else be taken out of a loop over layers
    when that is differentiated, and kept for all blocks and heads at once.
    """
    return jax.lax.optimization_barrier((pairs, x[(0,) * x.ndim]))[0]


def block(x: jax.Array, index, size: int, axis: int) -> jax.Array:
    """Returns one of the blocks along an axis."""
    return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)


def put_block(x: jax.Array, part: jax.Array, index, axis: int) -> jax.Array:
    """Returns the array with a block replaced."""
    return jax.lax.dynamic_update_slice_in_dim(x, part, index * part.shape[axis], axis)


def _add(x: jax.Array, part: jax.Array, index, size: int, axis: int) -> jax.Array:
    return put_block(x, block(x, index, size, axis) + part, index, axis)


def _blocks(settings: Settings, operands: Operands, i, j) -> tuple[jax.Array, ...]:
    queries, keys = settings.sizes
    of_keys = (block(x, j, keys, 2) for x in (operands.key, operands.value))
    return block(operands.query, i, queries, 3), *of_keys


def _allowed(settings: Settings, mask: AttentionMask, i, j) -> jax.Array:
    """Returns a block of the mask, [batch, 1, 1, queries, keys]."""
    queries, keys = (
        jax.tree.map(lambda x, n=n, size=size: block(x, n, size, 1), side)
        for side, n, size in zip((mask.queries, mask.keys), (i, j), settings.sizes, strict=True)
    )
    return dataclasses.replace(mask, queries=queries, keys=keys).dense()[:, None, None]


def _bias(settings: Settings, bias, tokens: Tokens, shape, i, j) -> jax.Array | None:
    """Returns a block of the bias, [1 or batch, kv_heads, group, queries, keys], or None."""
    if bias is None:
        return None
    middle = bias.shape[1] // 2
    queries, keys = settings.sizes
    if settings.consecutive:
        first = middle + j * keys - i * queries - (queries - 1)
        values = jax.lax.dynamic_slice_in_dim(bias, first, queries + keys - 1, 1)
        biased = toeplitz(values, queries)[None]
    else:
        of_keys, of_queries = block(tokens.keys, j, keys, 1), block(tokens.queries, i, queries, 1)
        distances = of_keys[:, None, :] - of_queries[:, :, None]
        # Farther ones are of different segments.
        biased = bias[:, jnp.clip(distances + middle, 0, bias.shape[1] - 1)].swapaxes(0, 1)
    return biased.reshape(biased.shape[0], *shape[1:3], queries, keys)
