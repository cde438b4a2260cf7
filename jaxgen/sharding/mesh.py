"""The device mesh: every axis always present, explicit axis types.

An axis that is not used has size 1, so code never asks whether it exists.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
from jax.experimental.mesh_utils import create_device_mesh, create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh

from jaxgen.distributed import meet
from jaxgen.domains import Domain, check_domains
from jaxgen.errors import ShardingError

MeshSize = Annotated[int, Domain(1, besides=-1)]

MESH_AXES = ("data", "fsdp", "expert", "sequence", "tensor", "stage")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; at most one may be -1, which takes the devices that are left.

    Attributes:
      data: replicas of the model, each on its share of the batch; the axis that slices of TPUs,
        joined by the data centre's network, are placed along.
      fsdp: like data, with parameters and optimiser state split as well.
      expert: like data for dense layers; splits the experts of sparse ones.
      sequence: splits the length of the activations.
      tensor: splits heads, feed-forward width and vocabulary.
      stage: pipeline stages, each with a share of the layers; see `sharding.pipeline`.
    """

    data: MeshSize = -1
    fsdp: MeshSize = 1
    expert: MeshSize = 1
    sequence: MeshSize = 1
    tensor: MeshSize = 1
    stage: MeshSize = 1

    def __post_init__(self):
        check_domains(self, "mesh")

    def sizes(self, num_devices: int) -> dict[str, int]:
        """Returns the size of every axis on `num_devices` devices.

        Raises:
          ShardingError: if the sizes cannot multiply to the number of devices.
        """
        sizes = {axis: getattr(self, axis) for axis in MESH_AXES}
        free = [axis for axis, size in sizes.items() if size == -1]
        if len(free) > 1:
            raise ShardingError(
                f"mesh axes {free} are all -1; only one axis can take the devices that are left."
            )
        fixed = math.prod(size for size in sizes.values() if size != -1)
        if free and num_devices % fixed == 0:
            sizes[free[0]] = num_devices // fixed
        elif free or fixed != num_devices:
            described = split_axes(sizes) or "all axes 1"
            raise ShardingError(
                f"the mesh {described} covers {fixed} device(s) but {num_devices} are here. "
                f"The product of the axes must be {num_devices}: an axis may be any of "
                f"{divisors(num_devices)}, or -1 to take what is left "
                "(on CPU, JAX_NUM_CPU_DEVICES=8 simulates eight devices)."
            )
        return sizes


def split_axes(sizes: Mapping[str, int]) -> str:
    """Returns the axes of a mesh that split anything, such as "data=2 x tensor=4"; "" of none."""
    return " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1)


def divisors(number: int) -> list[int]:
    """Returns all divisors of a positive number, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with all of MESH_AXES, explicit, over `devices` (all devices by default).

    Raises:
      ShardingError: if the axis sizes do not multiply to the number of devices, or `data` is no
        multiple of their slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = config.sizes(len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if devices[0].platform != "tpu" or slices == 1:
        # An axis may lie along a part of a dimension of the torus, which `jax.make_mesh` refuses.
        placed = create_device_mesh(tuple(sizes.values()), devices, allow_split_physical_axes=True)
    elif sizes["data"] % slices:
        raise ShardingError(
            f"mesh.data={sizes['data']} must be a multiple of the {slices} slices: the network "
            "between them is slow, and the sum of gradients is what it is for."
        )
    else:
        inside = {**sizes, "data": sizes["data"] // slices}
        across = [slices if axis == "data" else 1 for axis in sizes]
        placed = create_hybrid_device_mesh(
            tuple(inside.values()), across, devices, allow_split_physical_axes=True
        )
    mesh = Mesh(placed, tuple(sizes), axis_types=(AxisType.Explicit,) * len(sizes))
    meet(mesh)
    return mesh
