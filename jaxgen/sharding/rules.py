"""The table from logical axes to mesh axes, and the layouts that follow from it.

A parameter names its logical axes where it is made. Going from data parallel to FSDP, tensor or
expert parallel changes the table (or only the mesh) and no model code.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxgen.errors import ShardingError

MeshAxes = str | tuple[str, ...] | None
PADDED = ("vocab",)
"""Logical axes that a mesh need not divide; see `sharding.padding`."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """The mesh axis (or axes, or None) over which each logical axis is split.

    `batch` and `length` are axes of activations, the others of parameters; the width of
    activations (`embed` of a parameter) is never split. Pipeline stages share the rows of a batch
    outside of the stack, and inside it pass them on.
    """

    batch: str | tuple[str, ...] | None = ("data", "fsdp", "expert", "stage")
    length: str | tuple[str, ...] | None = "sequence"
    embed: str | tuple[str, ...] | None = "fsdp"
    vocab: str | tuple[str, ...] | None = "tensor"
    heads: str | tuple[str, ...] | None = "tensor"
    kv_heads: str | tuple[str, ...] | None = "tensor"
    head_dim: str | tuple[str, ...] | None = None
    rank: str | tuple[str, ...] | None = None
    mlp: str | tuple[str, ...] | None = "tensor"
    experts: str | tuple[str, ...] | None = "expert"
    layers: str | tuple[str, ...] | None = "stage"

    def mesh_axes(self, logical_axis: str | None) -> MeshAxes:
        """Returns the mesh axes of one logical axis; None stays None.

        Raises:
          ShardingError: if the table has no such logical axis.
        """
        if logical_axis is None:
            return None
        try:
            return getattr(self, logical_axis)
        except AttributeError:
            names = ", ".join(field.name for field in dataclasses.fields(self))
            raise ShardingError(
                f"no rule for the logical axis {logical_axis!r}; the table has: {names}."
            ) from None

    def stored(self, logical_axes: tuple[str | None, ...]) -> PartitionSpec:
        """Returns how a parameter with these logical axes is kept between steps."""
        return PartitionSpec(*(self.mesh_axes(axis) for axis in logical_axes))

    def gathered(self, logical_axes: tuple[str | None, ...]) -> PartitionSpec:
        """Returns how a parameter is laid out to compute: as stored, but whole over `fsdp`."""
        return PartitionSpec(*(_without_fsdp(self.mesh_axes(axis)) for axis in logical_axes))

    def activation(self, *logical_axes: str | None) -> PartitionSpec:
        """Returns how an activation with these logical axes is laid out."""
        return PartitionSpec(*(self.mesh_axes(axis) for axis in logical_axes))


def _without_fsdp(axes: MeshAxes) -> MeshAxes:
    if isinstance(axes, tuple):
        return tuple(axis for axis in axes if axis != "fsdp") or None
    return None if axes == "fsdp" else axes


def mesh_is_set() -> bool:
    """Returns whether a mesh, abstract or not, is in force; without one, layouts are ignored."""
    return not jax.sharding.get_abstract_mesh().empty


def num_parts(axes: tuple[str, ...]) -> int:
    """Returns into how many parts these axes of the mesh in force split; 1 without a mesh."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return math.prod(sizes.get(axis, 1) for axis in axes)


def free_axes() -> set[str]:
    """Returns the axes of the mesh in force that no `jax.shard_map` around has mapped."""
    mesh = jax.sharding.get_abstract_mesh()
    return set(mesh.axis_names) - set(mesh.manual_axes)


def compiled_for() -> str:
    """Returns the platform that the program being traced is for: "cpu", "gpu" or "tpu".

    It is that of the mesh in force, which may be of devices that are not here (a program compiled
    ahead of time); without a mesh it is that of this process.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def reshard(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    """Returns `jax.reshard`, or the array itself where no mesh is set."""
    return jax.reshard(array, spec) if mesh_is_set() else array


def einsum(equation: str, *operands: jax.Array, out: PartitionSpec) -> jax.Array:
    """Returns `jnp.einsum` with its result in a layout, which is ignored where no mesh is set."""
    return jnp.einsum(equation, *operands, out_sharding=out if mesh_is_set() else None)


def varying(array: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Returns an array of a `jax.shard_map` as one that may differ along mesh axes.

    Its gradient is then summed over them once, where this is called.
    """
    return jax.lax.pcast(array, axes, to="varying") if axes else array
