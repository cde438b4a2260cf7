"""Any tree is written as gin text that builds an equal tree, here and with gin itself."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gin
from jaxgen.configuration import difference, fingerprint, load_text, to_gin
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Empty:
    pass


@dataclasses.dataclass(frozen=True)
class Leaf:
    text: str
    count: int = 0
    ratio: float = 0.0
    kind: Literal["a", "b"] = "a"
    maybe: int | str | None = None
    flag: bool = False


@dataclasses.dataclass(frozen=True)
class Branch:
    child: Leaf | Branch | Empty | None = None
    items: tuple[Leaf | Branch | int, ...] = ()
    by_name: dict[str, Leaf | float] | None = None
    anything: Any = None
    derived: int = dataclasses.field(init=False, default=0)


TABLE = {"leaf": Leaf, "branch": Branch, "empty": Empty}

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
)
literals = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    ),
    max_leaves=6,
)
leaves = st.builds(
    Leaf,
    text=st.text(max_size=30),
    count=st.integers(),
    ratio=st.floats(allow_nan=False),
    kind=st.sampled_from("ab"),
    maybe=st.none() | st.integers() | st.text(max_size=5),
    flag=st.booleans(),
)
branches = st.recursive(
    st.builds(Branch, anything=literals),
    lambda inner: st.builds(
        Branch,
        child=st.none() | leaves | inner | st.just(Empty()),
        items=st.lists(leaves | inner | st.integers(), max_size=3).map(tuple),
        by_name=st.none() | st.dictionaries(st.text(max_size=5), leaves | st.floats(0, 1)),
        anything=literals,
    ),
    max_leaves=4,
)


def factory(kind):
    return lambda **values: kind(**values)


@functools.cache
def registered_with_gin():
    return {
        name: gin.external_configurable(factory(kind), name, module="jaxgen_test_rendering")
        for name, kind in TABLE.items()
    }


def read_by_gin(text: str) -> Any:
    configurables = registered_with_gin()
    gin.clear_config()
    try:
        gin.parse_config(text)
        return configurables["branch"]()
    finally:
        gin.clear_config()


@settings(max_examples=200, deadline=None)
@given(branches)
def test_round_trip(config):
    text = to_gin(config, TABLE)
    assert load_text(text, root="branch", table=TABLE) == config
    assert read_by_gin(text) == config
    assert to_gin(load_text(text, root="branch", table=TABLE), TABLE) == text


@settings(max_examples=200, deadline=None)
@given(branches, branches)
def test_difference_and_fingerprint_agree(a, b):
    assert difference(a, a) == []
    assert bool(difference(a, b)) == (fingerprint(a, TABLE) != fingerprint(b, TABLE))
    assert len(difference(a, b)) == len(difference(b, a))


def test_the_text_is_what_a_person_would_write():
    config = Branch(
        child=Leaf("it's", ratio=1),
        items=(Leaf("x"), 3),
        by_name={"b": 1, "a": Leaf("é")},
        anything=("long " * 12, ["item"] * 10, {}),
    )
    assert (
        to_gin(config, TABLE)
        == """\
branch.child = @child/leaf()
branch.items = (@items/_0/leaf(), 3)
branch.by_name = {'a': @by_name/_0/leaf(), 'b': 1.0}
branch.anything = (
    'long long long long long long long long long long long long ',
    ['item', 'item', 'item', 'item', 'item', 'item', 'item', 'item', 'item', 'item'],
    {},
)

child/leaf.text = "it's"
child/leaf.count = 0
child/leaf.ratio = 1.0
child/leaf.kind = 'a'
child/leaf.maybe = None
child/leaf.flag = False

items/_0/leaf.text = 'x'
items/_0/leaf.count = 0
items/_0/leaf.ratio = 0.0
items/_0/leaf.kind = 'a'
items/_0/leaf.maybe = None
items/_0/leaf.flag = False

by_name/_0/leaf.text = 'é'
by_name/_0/leaf.count = 0
by_name/_0/leaf.ratio = 0.0
by_name/_0/leaf.kind = 'a'
by_name/_0/leaf.maybe = None
by_name/_0/leaf.flag = False
"""
    )


def test_what_occurs_once_is_changed_by_its_plain_name():
    saved = to_gin(Branch(items=(Leaf("x"),), child=Empty()), TABLE)
    changed = load_text(saved, ["leaf.count=3"], root="branch", table=TABLE)
    assert changed == Branch(items=(Leaf("x", count=3),), child=Empty())
    twice = to_gin(Branch(items=(Leaf("x"), Leaf("y"))), TABLE)
    with pytest.raises(ConfigError, match=r"write `items/_0/leaf.count`, `items/_1/leaf.count`"):
        load_text(twice, ["leaf.count=3"], root="branch", table=TABLE)


def test_equal_configurations_have_one_fingerprint():
    ordered = Branch(by_name={"a": 1.0, "b": 2.0})
    assert fingerprint(ordered, TABLE) == fingerprint(Branch(by_name={"b": 2, "a": 1}), TABLE)
    of_numpy = Leaf("x", count=numpy.int64(3), ratio=numpy.float32(0.5))  # pyright: ignore
    assert fingerprint(of_numpy, TABLE) == fingerprint(Leaf("x", count=3, ratio=0.5), TABLE)
    assert len(fingerprint(ordered, TABLE)) == 12


def test_differences_are_lines_by_path():
    a = Branch(Leaf("x", count=4), (Leaf("x"), 3), {"p": 0.5, "q": 1.0}, anything=[1])
    b = Branch(Leaf("x", count=6), (Leaf("y"),), {"p": 0.25, "r": 1.0}, anything=(1,))
    assert difference(a, b) == [
        "child.count: 4 -> 6",
        "items[0].text: 'x' -> 'y'",
        "items[1]: 3 -> absent",
        "by_name['p']: 0.5 -> 0.25",
        "by_name['q']: 1.0 -> absent",
        "by_name['r']: absent -> 1.0",
        "anything: [1] -> (1,)",
    ]
    assert difference(Leaf("x"), Empty())[0].startswith("configuration: Leaf(text='x'")


def test_notes_are_written_but_make_no_difference():
    @dataclasses.dataclass(frozen=True)
    class Noted:
        size: int = 3
        note: Leaf | None = dataclasses.field(default=None, compare=False)

    table = {**TABLE, "noted": Noted}
    plain, noted = Noted(), Noted(note=Leaf("from the paper"))
    assert fingerprint(plain, table) == fingerprint(noted, table)
    assert difference(plain, noted) == []
    assert fingerprint(Noted(4), table) != fingerprint(plain, table)
    text = to_gin(noted, table)
    assert "leaf.text = 'from the paper'" in text
    assert load_text(text, root="noted", table=table).note == noted.note


def test_infinity_round_trips_and_what_gin_cannot_hold_is_refused():
    leaf = Leaf("x", ratio=-math.inf)
    assert load_text(to_gin(leaf, TABLE), root="leaf", table=TABLE) == leaf
    with pytest.raises(ConfigError, match="ratio is nan"):
        to_gin(Leaf("x", ratio=math.nan), TABLE)
    with pytest.raises(ConfigError, match=r"anything is .*set.*cannot hold"):
        to_gin(Branch(anything={1}), TABLE)
    with pytest.raises(ConfigError, match=r"leaf.count must be int, not 'three'"):
        to_gin(Leaf("x", count="three"), TABLE)  # pyright: ignore[reportArgumentType]


def test_a_class_outside_the_table_is_named_by_its_module():
    @dataclasses.dataclass(frozen=True)
    class Mine:
        size: int = 3

    text = to_gin(Branch(anything=Mine()), TABLE)
    name = "test_rendering.test_a_class_outside_the_table_is_named_by_its_module.Mine"
    mine = next(line for line in text.splitlines() if line.endswith("size = 3"))
    full = mine.removeprefix("anything/").removesuffix(".size = 3")
    assert full.endswith(name)
    assert load_text(text, root="branch", table={**TABLE, full: Mine}) == Branch(anything=Mine())
    with pytest.raises(ConfigError, match="unknown name"):
        load_text(text, root="branch", table=TABLE)
