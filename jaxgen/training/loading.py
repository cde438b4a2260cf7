"""From a mixture to a run's rows, and from a host's batches to global arrays on the mesh."""

from __future__ import annotations

import jax
import numpy as np

from jaxgen.batch import Batch
from jaxgen.data.loading import MixtureData
from jaxgen.data.mixtures import Mixture
from jaxgen.errors import ShardingError
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig


def open_data(mixture: Mixture, train: TrainConfig, num_steps: int) -> MixtureData:
    """The rows of a run.

    Raises:
      DataError: if they cannot be read, or end before the run does.
    """
    data = mixture.open(
        batch_size=train.batch_size,
        length=train.length,
        seed=train.seed,
        source_length=train.source_length,
        rows_before=train.batch_sizes.rows_before,
    )
    data.check_lasts(train.batch_sizes.rows_before(num_steps))
    return data


def put_batch(batch: Batch, mesh: jax.sharding.Mesh, rules: Rules, accumulation: int = 1) -> Batch:
    """Lays a host batch [batch, length] out over the mesh.

    With `accumulation` above 1 the arrays become [accumulation, batch / accumulation, length].
    """
    spec = rules.activation("batch", "length")
    if accumulation > 1:
        spec = jax.P(None, *spec)
    sharding = jax.NamedSharding(mesh, spec)

    def put(array: np.ndarray) -> jax.Array:
        if accumulation > 1:
            array = array.reshape(accumulation, -1, array.shape[-1])
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, batch)


def check_batch_fits(
    micro_batch_size: int, length: int, mesh: jax.sharding.Mesh, rules: Rules
) -> None:
    """Raises ShardingError if the mesh does not divide the micro-batch or the length."""
    for name, size, axes in (
        ("train.batch_size / train.accumulation", micro_batch_size, rules.batch),
        ("train.length", length, rules.length),
    ):
        sizes = {axis: mesh.shape[axis] for axis in axis_names(axes)}
        parts = int(np.prod(list(sizes.values()), initial=1))
        if size % parts:
            joined = " x ".join(f"{axis}={n}" for axis, n in sizes.items())
            raise ShardingError(
                f"{name} = {size} is not divided by the mesh axes {joined} ({parts} parts); "
                f"the nearest sizes that fit are {size - size % parts or parts} "
                f"and {size - size % parts + parts}."
            )
