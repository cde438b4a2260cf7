"""Splash attention, a Pallas kernel for TPU: nothing of [queries, keys] leaves the chip's caches.

The kernel knows segments, and masks that are a function of the places of a query and a key in the
row. Predicates give both: those of distance alone are such functions, and groups of tokens (chunks)
divide the segments further.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionSide, Grouped, Predicate, is_by_distance
from jaxgen.ops.attention.on_devices import on_each_device

LANES = 128
"""Lengths are filled up to a multiple of this, with a segment of its own."""

FILLING = -1
"""That segment; those of a row are not negative."""


def splash_refusal(call: AttentionCall) -> str | None:
    """Returns why the kernel cannot compute a call, or None."""
    if call.bias is not None:
        return "it knows no bias on the logits"
    if call.drops:
        return "it drops no weights"
    predicates, groups = call.mask.predicates, _grouped(call.mask.predicates)
    if len(groups) > 1:
        return "it can divide segments by one predicate only"
    for predicate in predicates:
        if predicate not in groups and not is_by_distance(predicate):
            return f"{predicate} is of more than distances and groups"
    if predicates and not call.mask.same_tokens:
        return "its mask is by places, and here queries and keys are not the same tokens"
    return None


def splash_slower(call: AttentionCall) -> str | None:
    """Returns why another implementation is faster: most of what it computes would be filling."""
    queries, keys = call.query.shape[2], call.key.shape[2]
    if 2 * queries * keys < math.prod(n + -n % LANES for n in (queries, keys)):
        return f"it fills {queries} queries and {keys} keys up to multiples of {LANES}"
    return None


def splash_attention(call: AttentionCall, interpret: bool = False) -> jax.Array:
    """Attends by the kernel.

    Args:
      call: one that is not refused.
      interpret: whether to run the kernel's steps as ordinary operations, on any platform.

    Returns:
      [batch, heads, queries, value_dim].
    """
    # Only here: a second of imports that no other platform needs.
    from jaxgen.ops.attention.splash_kernel import run_kernel

    predicates = call.mask.predicates
    kernel = functools.partial(run_kernel, predicates, call.soft_cap, interpret)
    sides = call.mask.queries, call.mask.keys
    segments = tuple(_segments(side, _grouped(predicates)) for side in sides)

    def compute(query, key, value, segments, sinks):
        queries, keys, values = (_filled(array, axis=2) for array in (query, key, value))
        ids = _filled(segments[0], 1, FILLING), _filled(segments[1], 1, FILLING)
        return kernel(queries, keys, values, ids, sinks)[:, :, : query.shape[2]]

    return on_each_device(compute, call.query, call.key, call.value, segments, call.sinks)


def _filled(array: jax.Array, axis: int, value: int = 0) -> jax.Array:
    """Returns an array whose length is one that the kernel takes, the rest being `value`."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = 0, -array.shape[axis] % LANES
    return jnp.pad(array, widths, constant_values=value)


def _grouped(predicates: tuple[Predicate, ...]) -> tuple[Grouped, ...]:
    return tuple(predicate for predicate in predicates if isinstance(predicate, Grouped))


def _segments(side: AttentionSide, grouped: tuple[Grouped, ...]) -> jax.Array:
    """Returns ids that are equal for tokens of the same segment and group."""
    ids = side.segment_ids
    for predicate in grouped:
        ids = ids * (ids.shape[1] + 1) + predicate.groups(side)
    return ids
