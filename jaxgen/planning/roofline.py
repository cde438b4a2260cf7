"""The least time of a step: what computing, memory, links and network would each take alone."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.planning.topology import Topology
from jaxgen.planning.work import Collective, Work

PARTS = ("compute", "memory", "interconnect", "network")


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of a step, each as if nothing else took any.

    A link's latency is left out, and so is what a chip does beside matrix products.

    Attributes:
      compute: at the peak rate of the chip.
      memory: at the bandwidth of its memory.
      interconnect: of the dimension of the torus that is busy longest.
      network: of the network between slices; 0 where its bandwidth is not known.
      by_axes: of the collectives over each set of mesh axes, one after the other.
    """

    compute: float
    memory: float
    interconnect: float
    network: float
    by_axes: Mapping[tuple[str, ...], float]

    @property
    def seconds(self) -> float:
        """The time of a step if all of these overlap entirely: no step is faster."""
        return max(getattr(self, name) for name in PARTS)

    @property
    def seconds_in_turn(self) -> float:
        """The time of a step if nothing overlaps."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def bound(self) -> str:
        """What takes longest, one of PARTS."""
        return max(PARTS, key=lambda name: getattr(self, name))


def roofline(work: Work, topology: Topology, devices: Sequence[Any]) -> Roofline | None:
    """Returns the times of a program's work; None where the chip has no figures.

    Args:
      work: of one device.
      topology: how the chips are linked.
      devices: in the order of the mesh, with the places of their chips as `coords`.
    """
    chip = topology.chip
    if chip.peak_flops is None or chip.hbm_bandwidth is None or chip.link_bandwidth is None:
        return None
    by_axes: dict[tuple[str, ...], float] = collections.defaultdict(float)
    busy, network = [0.0] * len(topology.shape), 0.0
    for one in work.collectives:
        if one.between_slices:
            apart = {0: Spanned(len(one.group), False)}
            bandwidth = (chip.dcn_bandwidth or math.inf) / chip.devices
            seconds = collective_seconds(one, apart, bandwidth)
            by_axes[one.axes] += seconds
            network += seconds
            continue
        spanned = _spanned(topology, [devices[number].coords for number in one.group])
        seconds = collective_seconds(one, spanned, chip.link_bandwidth / chip.devices)
        by_axes[one.axes] += seconds
        for dimension in spanned:
            busy[dimension] += seconds
    return Roofline(
        compute=work.flops / (chip.peak_flops / chip.devices),
        memory=work.traffic / (chip.hbm_bandwidth / chip.devices),
        interconnect=max(busy),
        network=network,
        by_axes=dict(by_axes),
    )


@dataclasses.dataclass(frozen=True)
class Spanned:
    """The places of a collective's devices along a dimension of the torus.

    Attributes:
      places: how many there are.
      is_ring: whether they are all of a dimension that is closed to a ring.
    """

    places: int
    is_ring: bool


def collective_seconds(
    one: Collective, spanned: Mapping[int, Spanned], link_bandwidth: float
) -> float:
    """Returns the time of the calls of a collective, by the rules of rings.

    What is gathered or scattered goes round, over the links of all dimensions at once and in both
    directions where they are rings; a sum is a scatter and a gather. What goes from all to all
    crosses the middle of the longest dimension. A permutation is one hop.
    """
    n = len(one.group)
    links = sum(2 if part.is_ring else 1 for part in spanned.values()) or 1
    round_trip = one.bytes * (n - 1) / n / (links * link_bandwidth)
    match one.kind:
        case "all-reduce":
            return 2 * round_trip
        case "all-to-all" | "ragged-all-to-all":
            return max(
                (
                    part.places * one.bytes / ((8 if part.is_ring else 4) * link_bandwidth)
                    for part in spanned.values()
                ),
                default=round_trip,
            )
        case "collective-permute":
            return one.bytes / link_bandwidth
        case _:
            return round_trip


def _spanned(topology: Topology, coordinates: Sequence[Sequence[int]]) -> dict[int, Spanned]:
    """Returns the dimensions of the torus along which the chips of a group lie apart.

    Devices that share a chip span none; they are taken to be linked as neighbours are.
    """
    found = {}
    for dimension, size in enumerate(topology.shape):
        places = len({place[dimension] for place in coordinates})
        if places > 1:
            found[dimension] = Spanned(places, places == size and topology.wraps(dimension))
    return found or {0: Spanned(2, False)}
