"""Attention on each device by itself: no head and no row needs another one's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxgen.sharding.rules import free_axes, mesh_is_set


def on_each_device(compute: Callable[..., jax.Array], query: jax.Array, *others: Any) -> jax.Array:
    """Returns `compute(query, *others)`, each device computing with its own parts.

    Parts are as the types say, and the result is split like the query. The gradient of what several
    devices have whole is summed over them once, after `compute`'s own backward pass.

    Args:
      compute: a function of parts.
      query: [batch, heads, queries, head_dim].
      others: pytrees of arrays.
    """
    if not mesh_is_set():
        return compute(query, *others)
    operands = (query, *others)
    split = jax.tree.map(lambda array: jax.typeof(array).sharding.spec, operands)
    # Kernels do not say of their results over which axes they differ, so it is not checked.
    mapped = jax.shard_map(
        compute, in_specs=split, out_specs=split[0], axis_names=free_axes(), check_vma=False
    )
    return mapped(*operands)
