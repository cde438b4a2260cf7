"""Operations of a compiled program's matrix products, read off its text."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+)$")
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_CALLS = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


def matrix_product_flops(text: str, unknown_trips: Fraction = Fraction(1)) -> Fraction:
    """2 * m * n * k of every dot, those inside loops as often as the loop runs.

    Args:
      text: of an optimised HLO module.
      unknown_trips: how often loops run whose count depends on data.
    """
    computations, entry = _computations(text)

    def flops(name: str) -> Fraction:
        total, shapes = Fraction(0), {}
        for line in computations[name]:
            match = _INSTRUCTION.match(line)
            if match is None:
                continue
            result, rest = match.groups()
            shape = _SHAPE.match(rest)
            shapes[result] = _sizes(shape.group(1)) if shape else ()
            if re.search(r"\bdot\(", rest):
                total += 2 * math.prod(shapes[result]) * _contracted(rest, shapes)
            times = Fraction(1)
            if re.search(r"\bwhile\(", rest):
                trips = _TRIPS.search(rest)
                times = Fraction(int(trips.group(1))) if trips else unknown_trips
            total += times * sum(flops(called) for called in _CALLS.findall(rest))
        return total

    return flops(entry)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = header.group(2)
            computations[current] = []
            entry = current if header.group(1) else entry
        elif current:
            computations[current].append(line)
    return computations, entry


def _contracted(rest: str, shapes: dict[str, tuple[int, ...]]) -> int:
    arguments = re.search(r"dot\(([^)]*)\)", rest)
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
    assert arguments and axes, rest
    first = arguments.group(1).split("%")[1] if "%" in arguments.group(1) else arguments.group(1)
    named = re.match(r"[\w.\-]+", first)
    assert named, rest
    return math.prod(shapes[named.group(0)][axis] for axis in _sizes(axes.group(1)))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)
