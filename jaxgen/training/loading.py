"""From a mixture to a run's rows, and from a host's batches to global arrays on the mesh."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgen.data.base import Data, DataConfig
from jaxgen.errors import ShardingError
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig


def open_data(mixture: DataConfig, train: TrainConfig, num_steps: int) -> Data:
    """Returns the rows of a run.

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


def abstract_batch(batch: Any, mesh: jax.sharding.Mesh, rules: Rules, accumulation: int = 1) -> Any:
    """Returns the shapes of a batch as `put_batch` lays it out over the mesh."""

    def place(axes: tuple[str | None, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        shape = tuple(leaf.shape)
        if accumulation > 1:
            shape, axes = (accumulation, shape[0] // accumulation, *shape[1:]), (None, *axes)
        sharding = batch_sharding(mesh, rules, axes, len(shape))
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

    return map_batch(place, batch)


def put_batch(
    batch: Any,
    mesh: jax.sharding.Mesh,
    rules: Rules,
    accumulation: int = 1,
    rows: ProcessRows | None = None,
) -> Any:
    """Lays a host's batch out over the mesh: any pytree of arrays [batch, ...].

    The fields of a dataclass say how their arrays are split (see `jaxgen.batch.TokenArray`); other
    arrays are split by rows alone. With `accumulation` above 1 the arrays become
    [accumulation, batch / accumulation, ...].

    Args:
      batch: all rows of the global batch, or those that `rows` chose.
      mesh: of any number of processes.
      rules: of the mesh.
      accumulation: microbatches of the batch.
      rows: which rows of the global batch this process has; None: every process has all.
    """

    own, parts = ((0,), 1) if rows is None else (rows.own, rows.parts)

    def put(axes: tuple[str | None, ...], array: Any) -> jax.Array:
        array = np.asarray(array)
        if accumulation > 1:
            array = array.reshape(accumulation, -1, *array.shape[1:])
            axes = (None, *axes)
        sharding = batch_sharding(mesh, rules, axes, array.ndim)
        if sharding.is_fully_addressable:
            return jax.make_array_from_process_local_data(sharding, array)
        at = axes.index("batch")
        stretch = array.shape[at] // len(own)

        def shard(index: Any) -> np.ndarray:
            start, stop, _ = index[at].indices(stretch * parts)
            first = own.index(start // stretch) * stretch + start % stretch
            return array[(*index[:at], slice(first, first + stop - start), *index[at + 1 :])]

        shape = (*array.shape[:at], stretch * parts, *array.shape[at + 1 :])
        return jax.make_array_from_callback(shape, sharding, shard)

    return map_batch(put, batch)


def batch_sharding(
    mesh: jax.sharding.Mesh, rules: Rules, axes: tuple[str | None, ...], num_axes: int
) -> jax.NamedSharding:
    """Returns how an array of a batch is split whose first axes are these logical ones."""
    spec = rules.activation(*axes, *[None] * (num_axes - len(axes)))
    return jax.NamedSharding(mesh, spec)


def map_batch(
    function: Callable[[tuple[str | None, ...], Any], Any],
    batch: Any,
    axes: tuple[str | None, ...] = ("batch",),
) -> Any:
    """Returns a batch of `function(axes, array)`; `axes` are logical ones that its fields declare.

    Arrays outside of a dataclass have `axes` as they are given.
    """
    if not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        return jax.tree.map(functools.partial(function, axes), batch)
    changes = {
        name: map_batch(function, getattr(batch, name), *declared)
        for name, declared in _declared_axes(type(batch)).items()
    }
    return dataclasses.replace(batch, **changes)


@functools.cache
def _declared_axes(kind: type) -> dict[str, tuple[Any, ...]]:
    """Returns the axes of a batch's fields but for static ones; read once, not at every step."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: getattr(hints[field.name], "__metadata__", ())
        for field in dataclasses.fields(kind)
        if not field.metadata.get("static")
    }


@dataclasses.dataclass(frozen=True)
class ProcessRows:
    """Maps the size of a global batch to the numbers of the rows that one process needs.

    Attributes:
      microbatch_size: rows of a full microbatch; each microbatch is split over the mesh by itself.
      parts: equal stretches of rows that the mesh splits a microbatch into.
      own: the stretches that lie on this process's devices, ascending.
    """

    microbatch_size: int
    parts: int
    own: tuple[int, ...]

    def __call__(self, batch_size: int) -> list[int]:
        """Returns the rows of the process in ascending order."""
        micro = min(batch_size, self.microbatch_size)
        size = micro // self.parts
        return [
            start + part * size + row
            for start in range(0, batch_size, micro)
            for part in self.own
            for row in range(size)
        ]


def process_rows(
    mesh: jax.sharding.Mesh, rules: Rules, microbatch_size: int, process: int | None = None
) -> ProcessRows:
    """Returns which rows a process (this one by default) reads; see `put_batch`."""
    process = jax.process_index() if process is None else process
    parts = math.prod(mesh.shape[axis] for axis in axis_names(rules.batch))
    sharding = jax.NamedSharding(mesh, rules.activation("batch"))
    places = sharding.devices_indices_map((parts,)).items()
    own = {place[0].start or 0 for device, place in places if device.process_index == process}
    return ProcessRows(microbatch_size, parts, tuple(sorted(own)))


def check_batch_fits(
    size_name: str, batch_size: int, length: int, mesh: jax.sharding.Mesh, rules: Rules
) -> None:
    """Raises ShardingError, by `size_name`, if the mesh does not divide a batch."""
    for name, size, axes in (
        (size_name, batch_size, rules.batch),
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
