"""Splash attention, a Pallas kernel for TPU: nothing of [queries, keys] leaves the chip's caches.

The kernel knows segments, and masks that are a function of the places of a query and a key in the
row. Predicates give both: those of distance alone are such functions, and groups of tokens (chunks)
divide the segments further.
"""

from __future__ import annotations

import functools

import jax

from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionSide, Grouped, Predicate, is_by_distance
from jaxgen.ops.attention.on_devices import on_each_device

LANES = 128
"""What lengths must be multiples of."""


def splash_refusal(call: AttentionCall) -> str | None:
    """Returns why the kernel cannot compute a call, or None."""
    if call.bias is not None:
        return "it knows no bias on the logits"
    if call.drops:
        return "it drops no weights"
    queries, keys = call.query.shape[2], call.key.shape[2]
    if queries % LANES or keys % LANES:
        return f"{queries} queries and {keys} keys are no multiples of {LANES}"
    predicates, groups = call.mask.predicates, _grouped(call.mask.predicates)
    if len(groups) > 1:
        return "it can divide segments by one predicate only"
    for predicate in predicates:
        if predicate not in groups and not is_by_distance(predicate):
            return f"{predicate} is of more than distances and groups"
    if predicates and not call.mask.same_tokens:
        return "its mask is by places, and here queries and keys are not the same tokens"
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
    compute = functools.partial(run_kernel, predicates, call.soft_cap, interpret)
    sides = call.mask.queries, call.mask.keys
    segments = tuple(_segments(side, _grouped(predicates)) for side in sides)
    return on_each_device(compute, call.query, call.key, call.value, segments, call.sinks)


def _grouped(predicates: tuple[Predicate, ...]) -> tuple[Grouped, ...]:
    return tuple(predicate for predicate in predicates if isinstance(predicate, Grouped))


def _segments(side: AttentionSide, grouped: tuple[Grouped, ...]) -> jax.Array:
    """Returns ids that are equal for tokens of the same segment and group."""
    ids = side.segment_ids
    for predicate in grouped:
        ids = ids * (ids.shape[1] + 1) + predicate.groups(side)
    return ids
