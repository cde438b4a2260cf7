"""Fields of open types: what fits is taken, and what does not is told what it lacks."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import pytest

from jaxgen.configuration import load_text, to_gin
from jaxgen.configuration.protocols import fitting, lacking
from jaxgen.errors import ConfigError


class Tool(Protocol):
    name: str

    @property
    def weight(self) -> float: ...

    def use(self, thing: str, *, times: int) -> str: ...


class Rule(Protocol):
    def __call__(self, x: int) -> int: ...


@dataclasses.dataclass(frozen=True)
class Hammer:
    name: str = "hammer"
    weight: float = 2.0

    def use(self, thing: str, *, times: int, gently: bool = False) -> str:
        return thing * times


@dataclasses.dataclass(frozen=True)
class Doubled:
    factor: int = 2

    def __call__(self, x: int) -> int:
        return self.factor * x


@dataclasses.dataclass(frozen=True)
class Broken:
    name: str = "broken"

    def use(self, thing: str) -> str:
        return thing

    def __call__(self) -> int:
        return 0


@dataclasses.dataclass(frozen=True)
class Box:
    tool: Tool | None = None
    rules: tuple[Rule, ...] = ()
    note: Any = None


TABLE = {"box": Box, "hammer": Hammer, "doubled": Doubled, "broken": Broken}


def test_what_fits_is_found_by_its_members_alone():
    assert fitting(Tool, TABLE) == ["hammer"]
    assert fitting(Rule, TABLE) == ["doubled"]
    assert lacking(Doubled, Tool) == [
        "no attribute name",
        "no attribute weight",
        "no method use(thing, times)",
    ]
    assert lacking(Broken, Tool) == [
        "no attribute weight",
        "use(thing) where use(thing, times) is called",
    ]
    assert lacking(Broken, Rule) == ["__call__() where __call__(x) is called"]


def test_parts_that_fit_are_built_and_written():
    text = "box.tool = @hammer()\nbox.rules = (@doubled(), @a/doubled())\na/doubled.factor = 3\n"
    box = load_text(text, root="box", table=TABLE)
    hammer: Any = Hammer()  # Frozen, so that its name is no attribute to set.
    assert box == Box(hammer, (Doubled(), Doubled(3)))
    assert load_text(to_gin(box, TABLE), root="box", table=TABLE) == box


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "box.tool = @doubled()",
            ["must be Tool | None", "no method use(thing, times)", "@hammer()"],
        ),
        ("box.tool = 3", ["must be Tool | None, not 3 (int); write @hammer()"]),
        ("box.tool = 'hammer'", ["write @hammer()"]),
        ("box.rules = (@hammer(),)", ["tuple[Rule, ...]", "write @doubled()"]),
    ],
)
def test_what_does_not_fit_is_told_what_it_lacks(text, words):
    with pytest.raises(ConfigError) as raised:
        load_text(text, root="box", table=TABLE, source="a.gin")
    assert str(raised.value).startswith("a.gin:1: `box.")
    for word in words:
        assert word in str(raised.value)


def test_from_python_as_well():
    with pytest.raises(ConfigError, match=r"box.tool must be Tool.*it has no attribute name"):
        to_gin(Box(Doubled()), TABLE)  # pyright: ignore[reportArgumentType]
