"""gin itself builds the same trees: random texts of scopes, macros and nested references."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gin
from jaxgen.configuration import load_text
from jaxgen.errors import ConfigError

LEVELS = 4


@dataclasses.dataclass(frozen=True)
class Node:
    level: int
    x: Any = 0
    y: Any = None


def node_of(level: int):
    def node(x=0, y=None):
        return Node(level, x, y)

    return node


TABLE = {f"node{level}": node_of(level) for level in range(LEVELS)}


@functools.cache
def registered_with_gin():
    return {
        name: gin.external_configurable(factory, name, module="jaxgen_test_against_gin")
        for name, factory in TABLE.items()
    }


@st.composite
def values(draw, level: int) -> str:
    """A value whose references are deeper than `level`: nothing is built from itself."""
    choices = [st.integers(-9, 9).map(str), st.sampled_from(["None", "'a'", "1.5", "True"])]
    if level + 1 < LEVELS:
        inner = draw(st.integers(level + 1, LEVELS - 1))
        scope = draw(st.sampled_from(["", "a/", "b/", "a/b/", f"M{inner}/"]))
        reference, macro = f"@{scope}node{inner}()", f"%M{inner}"
        choices += [
            st.just(reference),
            st.just(macro),
            st.just(f"({reference}, [{macro}], {{'k': {reference}}})"),
        ]
    return draw(st.one_of(choices))


@st.composite
def texts(draw) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 14))):
        level = draw(st.integers(0, LEVELS - 1))
        value = draw(values(level))
        if level and draw(st.booleans()):
            lines.append(f"M{level} = {value}")
        else:
            scope = draw(st.sampled_from(["", "a/", "b/", "a/b/", "M2/"]))
            lines.append(f"{scope}node{level}.{draw(st.sampled_from('xy'))} = {value}")
    return "\n".join(["node0.x = @a/node1()", *lines]) + "\n"


def built_by_gin(text: str) -> Any:
    """What gin builds; None where it refuses, as for a macro that is not set."""
    configurables = registered_with_gin()
    gin.clear_config()
    try:
        gin.parse_config(text)
        return configurables["node0"]()
    except Exception:
        return None
    finally:
        gin.clear_config()


@settings(max_examples=300, deadline=None)
@given(texts())
def test_the_same_tree_as_gin(text):
    expected = built_by_gin(text)
    try:
        built = load_text(text, root="node0", table=TABLE)
    except ConfigError as error:
        if expected is None:
            assert "is used but not set" in str(error)
            return
        # Only what has no effect may be refused: without those lines gin builds the same.
        unused = set()
        for problem in str(error).splitlines():
            match = re.match(r"text:(\d+): .* is set, but ", problem)
            assert match, problem
            unused.add(int(match[1]))
        kept = [line for n, line in enumerate(text.splitlines(), 1) if n not in unused]
        text = "\n".join(kept) + "\n"
        assert built_by_gin(text) == expected
        built = load_text(text, root="node0", table=TABLE)
    assert built == expected


def test_the_oracle_is_not_trivial():
    assert built_by_gin("node0.x = @a/node1()\na/node1.y = %M2\nM2 = 3\n") == Node(0, Node(1, 0, 3))
    assert built_by_gin("node0.x = %M2\n") is None
    with pytest.raises(ConfigError):
        load_text("node0.x = %M2\n", root="node0", table=TABLE)
