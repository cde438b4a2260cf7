"""The work of a compiled program: operations, traffic and collectives, each as often as it runs."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from jaxgen.planning.hlo import Computation, Instruction, Module, parse_module
from jaxgen.planning.operations import flops_of
from jaxgen.planning.replica_groups import axes_of, first_group
from jaxgen.planning.traffic import traffic_of
from jaxgen.planning.trips import trip_count

_COLLECTIVE = re.compile(
    r"(all-gather|all-reduce|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute|"
    r"collective-broadcast)(-start)?"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind over the same devices, all calls of a step together.

    Attributes:
      kind: such as "all-gather".
      group: numbers of the devices of the first group.
      axes: the mesh axes that it goes over, such as ("fsdp",).
      calls: how often a step calls one.
      bytes: of all calls of a device: of what is gathered the whole, of what is reduced and
        scattered the whole, otherwise what the device gives.
      between_slices: whether it goes over the network between slices, not over links of chips.
    """

    kind: str
    group: tuple[int, ...]
    axes: tuple[str, ...]
    calls: int
    bytes: int
    between_slices: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one device in one run of a program.

    Attributes:
      flops: of products and convolutions, and of kernels that say theirs.
      traffic: bytes to and from main memory.
      collectives: by kind and axes, the largest first.
      silent_kernels: calls of kernels whose operations are not known, by name.
      endless_loops: loops whose number of runs depends on data.
    """

    flops: int
    traffic: int
    collectives: tuple[Collective, ...]
    silent_kernels: Mapping[str, int]
    endless_loops: int


@dataclasses.dataclass
class _Sums:
    flops: Fraction = Fraction(0)
    traffic: Fraction = Fraction(0)
    calls: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    bytes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    silent: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    endless: int = 0

    def add(self, other: _Sums, times: Fraction = Fraction(1)) -> None:
        self.flops += times * other.flops
        self.traffic += times * other.traffic
        self.endless += other.endless
        for name in ("calls", "bytes", "silent"):
            mine = getattr(self, name)
            for key, value in getattr(other, name).items():
                mine[key] += times * value


def read_work(text: str, mesh: Mapping[str, int], unknown_trips: Fraction = Fraction(1)) -> Work:
    """Returns the work of a device, from the text of an optimised HLO module.

    Args:
      text: of `compiled.as_text()`.
      mesh: the size of every axis of the mesh that it was compiled for, in order.
      unknown_trips: how often loops run whose number of runs depends on data.
    """
    module = parse_module(text)
    sums = _Reader(module, mesh, unknown_trips).of(module.entry)
    found = sorted(_collectives(sums, mesh), key=lambda one: -one.bytes)
    silent = {name: round(calls) for name, calls in sums.silent.items()}
    return Work(round(sums.flops), round(sums.traffic), tuple(found), silent, sums.endless)


def _collectives(sums: _Sums, mesh: Mapping[str, int]) -> list[Collective]:
    """Returns one for each kind, axes and size of groups; its group is the first that was met."""
    found: dict[tuple[Any, ...], Collective] = {}
    for (kind, group, far), size in sums.bytes.items():
        axes, calls = axes_of(group, mesh), sums.calls[kind, group, far]
        if len(group) > 1:
            one = Collective(kind, group, axes, round(calls), round(size), far)
            known = found.setdefault((kind, axes, len(group), far), one)
            if known is not one:
                calls, total = known.calls + one.calls, known.bytes + one.bytes
                found[kind, axes, len(group), far] = dataclasses.replace(
                    known, calls=calls, bytes=total
                )
    return list(found.values())


class _Reader:
    """Adds up a module's work, each computation once."""

    def __init__(self, module: Module, mesh: Mapping[str, int], unknown_trips: Fraction):
        self.module, self.unknown_trips = module, unknown_trips
        self.devices = math.prod(mesh.values())
        self.known: dict[str, _Sums] = {}

    def of(self, name: str) -> _Sums:
        """Returns the sums of one run of a computation."""
        if name not in self.known:
            self.known[name] = self._sum(self.module.computations[name])
        return self.known[name]

    def _sum(self, computation: Computation) -> _Sums:
        sums, in_flight = _Sums(), set[tuple[str, ...]]()
        for one in computation.instructions.values():
            sums.traffic += traffic_of(self.module, computation, one)
            if one.opcode == "while":
                trips = trip_count(self.module, computation, one)
                times = self.unknown_trips if trips is None else Fraction(trips)
                sums.add(self.of(one.called["body"][0]), times)
                sums.endless += trips is None
            elif one.opcode == "conditional":
                branches = [self.of(name) for name in _branches(one)]
                sums.add(max(branches, key=lambda branch: branch.flops))
            elif one.opcode in ("call", "async-start"):
                sums.add(self.of(one.called["to_apply" if one.opcode == "call" else "calls"][0]))
            else:
                for inner, part in _parts(self.module, computation, one):
                    self._add_one(sums, in_flight, inner, part)
        return sums

    def _add_one(
        self, sums: _Sums, in_flight: set[tuple[str, ...]], inner: Computation, one: Instruction
    ) -> None:
        flops = flops_of(inner, one)
        if flops is None:
            sums.silent[_kernel_name(one)] += 1
        sums.flops += flops or 0
        far = one.attribute(r'_xla_megascale_transfer_type="(\w+)"')
        if far is not None and one.opcode == "send":
            # The compiler has summed what is on a slice; a device sends its part to the others.
            slices = one.attribute(r'_xla_megascale_target="\{([\d,]+)\}') or ""
            count = slices.count(",") + 1
            group = tuple(range(0, self.devices, self.devices // count))
            key = far.lower().replace("_", "-"), group, True
            sums.calls[key] += 1
            sums.bytes[key] += inner.operand(one, 0).bytes
            return
        kind = _COLLECTIVE.fullmatch(one.opcode)
        if kind is None:
            return
        chain = one.attribute(r'chain_id="(\w+)"')
        if chain is not None:
            # The compiler for TPU spreads one collective over the fusions that hide it.
            key = (chain, one.attribute(r"channel_id=(\d+)") or "")
            if key in in_flight:
                return
            in_flight.add(key)
        name, size = kind[1], _collective_bytes(one, inner, kind[2] is not None)
        group = tuple(sorted(first_group(one.attributes, self.devices)))
        if name == "reduce-scatter":
            size *= len(group)
        if name == "all-reduce" and "all-reduce-scatter" in inner.name:
            name = "reduce-scatter"
        sums.calls[name, group, False] += 1
        sums.bytes[name, group, False] += size


def _parts(
    module: Module, computation: Computation, one: Instruction
) -> Iterator[tuple[Computation, Instruction]]:
    """Yields an instruction, or those of a fusion and of the fusions in it."""
    if one.opcode != "fusion":
        yield computation, one
        return
    inner = module.computations[one.called["calls"][0]]
    for part in inner.instructions.values():
        yield from _parts(module, inner, part)


def _branches(one: Instruction) -> tuple[str, ...]:
    named = one.called.get("branch_computations", ())
    return named or tuple(
        name for name in re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", one.attributes)
    )


def _collective_bytes(one: Instruction, inner: Computation, is_start: bool) -> int:
    if one.opcode.startswith(("all-gather", "ragged")) and not is_start:
        return one.bytes
    if is_start and one.opcode.startswith("all-gather"):
        given = sum(len(inner.instructions[name].arrays) for name in one.operands)
        return sum(array.bytes for array in one.arrays[given : 2 * given])
    if one.opcode == "reduce-scatter":
        return one.bytes
    return sum(inner.instructions[name].bytes for name in one.operands)


def _kernel_name(one: Instruction) -> str:
    named = one.attribute(r'op_name="([^"]*)"')
    if named is None:
        return one.name.split(".")[0]
    return named.removesuffix("/pallas_call").rsplit("/", 1)[-1]
