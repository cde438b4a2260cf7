"""Valid files with faults in them, as hypothesis strategies."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

STRANGE = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, 10**400, -0.0, 1e308, 1e-320, float("nan"),
    float("inf"), "", "a", "\x00", "\ud800", "../../etc/passwd", "/etc/passwd", "1e9", "²",
    "x" * 3000, [], [[]], [None], {}, {"a": {}}, {"": 0},
]  # fmt: skip
"""Values that a reader may not expect."""


def deep(levels: int, value: Any = 0) -> Any:
    """Returns lists within lists."""
    for _ in range(levels):
        value = [value]
    return value


strange_values = st.one_of(
    st.sampled_from(STRANGE), st.builds(deep, st.sampled_from([3, 70, 300])),
    st.integers(), st.floats(), st.text(max_size=8),
)  # fmt: skip


@st.composite
def mutated_json(draw: Any, value: Any) -> Any:
    """Draws a JSON value with one to three places replaced, removed, renamed or added to."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return draw(strange_values)
        inside, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
        if what == "remove":
            del inside[key]
        elif what == "rename" and isinstance(inside, dict):
            inside[draw(st.sampled_from(["", "a", "../a", "\ud800", "name"]))] = inside.pop(key)
        elif what == "repeat" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            inside[key] = copy.deepcopy(draw(strange_values))
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


KINDS = ("flip", "byte", "cut", "insert", "remove", "repeat", "number")


@st.composite
def mutated_bytes(draw: Any, data: bytes) -> bytes:
    """Draws bytes with one to three flips, cuts, insertions or repeats."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(KINDS))
        if what == "cut":
            data = data[:at]
        elif what == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=9)) + data[at:]
        elif what == "remove":
            data = data[:at] + data[at + draw(st.integers(1, 40)) :]
        elif what == "repeat":
            data = data[:at] + data[at : at + draw(st.integers(1, 200))] + data[at:]
        elif what == "number":
            number = draw(st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\x00" * 8, b"\x7f" * 8]))
            data = data[:at] + number + data[at + len(number) :]
        elif data:
            new = data[at] ^ (1 << draw(st.integers(0, 7)))
            new = draw(st.integers(0, 255)) if what == "byte" else new
            data = data[:at] + bytes([new]) + data[at + 1 :]
    return data


def dumped(value: Any) -> bytes:
    """Returns a value as JSON."""
    return json.dumps(value).encode()


def json_files(value: Any) -> Any:
    """Draws the bytes of a JSON file: mostly valid JSON of a wrong shape, or damaged bytes."""
    shapes = mutated_json(value).map(dumped)
    nested = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b""])
    return st.one_of(shapes, shapes, shapes, mutated_bytes(dumped(value)), nested)


def json_lines(rows: list[Any]) -> Any:
    """Draws the bytes of a file of JSON lines, likewise."""
    lines = st.lists(st.sampled_from(rows).flatmap(mutated_json), min_size=1, max_size=3)
    made = lines.map(lambda few: b"".join(dumped(row) + b"\n" for row in [*rows, *few]))
    return st.one_of(made, made, made.flatmap(mutated_bytes))
