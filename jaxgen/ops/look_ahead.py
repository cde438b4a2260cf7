"""A batch as it is seen from some positions before: for what is predicted further ahead."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


def look_ahead(batch: Batch, steps: int) -> Batch:
    """Returns a batch whose tokens, targets and loss weights are those of `steps` positions later.

    Where a segment ends before that, the token and the weight are 0: nothing is predicted from one
    segment into another.
    """

    def later(x: Any) -> jax.Array:
        # Devices that hold a part of the length each need their neighbour's.
        whole = reshard(jnp.asarray(x), spec("batch", None))
        moved = jnp.pad(whole[:, steps:], [(0, 0), (0, steps)])
        return reshard(moved, spec("batch", "length"))

    is_same = later(batch.segment_ids) == batch.segment_ids
    is_same &= later(batch.positions) == batch.positions + steps
    return dataclasses.replace(
        batch,
        tokens=jnp.where(is_same, later(batch.tokens), 0),
        targets=jnp.where(is_same, later(batch.targets), 0),
        loss_weights=jnp.where(is_same, later(batch.loss_weights), 0.0),
        segment_ids=jnp.where(is_same, batch.segment_ids, 0),
    )
