"""A topology: a kind of chip, the shape that they are linked in, and how many slices of it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from typing import Any

import jax

from jaxgen.chips import CHIPS, Chip
from jaxgen.errors import ConfigError

INSTALL = "pip install 'jaxgen[plan]'"
_OFFLINE = {
    # No metadata server is asked what this machine is, and no lock is taken on a TPU.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind in a mesh or torus, or in several that a slower network joins.

    Attributes:
      chip: the kind.
      shape: chips along each dimension of a slice, such as (8, 8, 16).
      slices: how many there are.
    """

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    def __str__(self) -> str:
        slices = f"{self.slices}x" if self.slices > 1 else ""
        return f"{slices}{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """The number of chips of all slices."""
        return self.slices * math.prod(self.shape)

    @property
    def num_devices(self) -> int:
        """The number of JAX devices."""
        return self.chips * self.chip.devices

    def wraps(self, dimension: int) -> bool:
        """Returns whether the chips along a dimension are linked to a ring."""
        return self.shape[dimension] % self.chip.wraps_at == 0

    def devices(self) -> list[Any]:
        """Returns the devices to compile for, which no program can run on unless they are here.

        Raises:
          ConfigError: if the compiler of their platform is not installed or refuses the shape, or
            if there are fewer CPU devices in this process.
        """
        if self.chip.platform == "cpu":
            return _cpu_devices(self.chips)
        return list(_described(self).devices)


def parse_topology(text: str) -> Topology:
    """Returns the topology of a name such as "v5p:8x8x16", "2xv4:12x16x16" or "cpu:8".

    Raises:
      ConfigError: if there is no such chip, or the shape is none of its kind.
    """
    known = ", ".join(CHIPS)
    several = re.match(r"([1-9]\d*)x(?=[^:])", text)
    slices = int(several.group(1)) if several else 1
    name, _, numbers = text[several.end() if several else 0 :].partition(":")
    if name not in CHIPS:
        raise ConfigError(
            f"--topology={text}: there is no chip {name!r}; known are {known}. Write a chip and a "
            "shape, such as v5e:2x4, v5p:8x8x16 or cpu:8; several slices as 2xv4:4x4x4."
        )
    chip = CHIPS[name]
    shape = tuple(int(size) for size in numbers.split("x")) if _is_shape(numbers) else ()
    if len(shape) != chip.dimensions or min(shape) < 1:
        example = "x".join(["4"] * chip.dimensions)
        raise ConfigError(
            f"--topology={text}: a slice of {name} has {chip.dimensions} dimension(s); write it as "
            f"{name}:{example}."
        )
    fits_a_host = all(size <= bound for size, bound in zip(shape, chip.host_bounds, strict=True))
    if not fits_a_host and any(s % b for s, b in zip(shape, chip.host_bounds, strict=True)):
        bounds = "x".join(map(str, chip.host_bounds))
        raise ConfigError(
            f"--topology={text}: a slice of {name} is made of hosts of {bounds} chips, which do "
            "not divide this shape."
        )
    if slices > 1 and chip.platform == "cpu":
        raise ConfigError(f"--topology={text}: CPU devices are in no slices; write cpu:{numbers}.")
    return Topology(chip, shape, slices)


def offer_devices(topology: Topology) -> None:
    """Prepares a process that has used no device yet: no accelerator is taken, and CPUs suffice."""
    jax.config.update("jax_platforms", "cpu")
    if topology.chip.platform == "cpu":
        with contextlib.suppress(RuntimeError):  # Devices are in use: `devices` counts them.
            jax.config.update("jax_num_cpu_devices", topology.chips)


def _is_shape(text: str) -> bool:
    return re.fullmatch(r"\d+(x\d+)*", text) is not None


def _cpu_devices(count: int) -> list[Any]:
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ConfigError(
            f"--topology=cpu:{count} needs {count} CPU devices and this process has "
            f"{len(devices)}; set JAX_NUM_CPU_DEVICES={count} before it starts."
        )
    return devices[:count]


def _described(topology: Topology) -> Any:
    from jax.experimental import topologies

    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {}
    if topology.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # Both cores of a chip are one device.
    if topology.slices > 1:
        options["num_slices"] = topology.slices
    shape = topology.shape
    if all(s <= b for s, b in zip(shape, topology.chip.host_bounds, strict=True)):
        options["chips_per_host_bounds"] = (*shape, 1)[:3]
    name = f"{topology.chip.compiler_name}:{'x'.join(map(str, shape))}"
    try:
        return topologies.get_topology_desc(name, "tpu", **options)
    except Exception as error:
        if not _has_libtpu():
            raise ConfigError(
                f"--topology={topology} is compiled by libtpu, which is not installed here (no "
                f"TPU is needed): {INSTALL}"
            ) from error
        raise ConfigError(f"--topology={topology}: the TPU compiler refuses it: {error}") from error


def _has_libtpu() -> bool:
    try:
        import libtpu  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return libtpu is not None
