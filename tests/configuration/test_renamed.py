"""Recorded configurations of earlier versions load under today's names."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest

from jaxgen.configuration import load_recorded, load_text, registered, renamed, to_gin
from jaxgen.configuration.table import parameters
from jaxgen.errors import ConfigError, JaxgenWarning


@dataclasses.dataclass(frozen=True)
class Near:
    size: int = 1


@dataclasses.dataclass(frozen=True)
class Far:
    pass


@dataclasses.dataclass(frozen=True)
class Model:
    width: int
    mask: Any = None
    first: Any = None
    second: Any = 0


@dataclasses.dataclass(frozen=True)
class Inner:
    log_every: int = 1
    mesh: Any = None


@dataclasses.dataclass(frozen=True)
class Run:
    model: Model
    inner: Inner = Inner()


TABLE = {"run": Run, "model": Model, "near": Near, "far": Far, "inner": Inner}
RENAMED = {
    "banded": "window",  # a chain: then window became near
    "window": "near",
    "near.extent": "near.size",
    "model.visibility": "model.mask",
    "train.log_every": "inner.log_every",
    "run.mesh": "inner.mesh",
    "model.unused": None,
    "model.first@near": "far",  # `near` meant another class there
    "model.second@near": None,
}
OLD = """\
run.model = @model()
run.mesh = @mesh/banded()
model.width = 4
model.visibility = (@banded(), {'a': [@window()]})
model.unused = 3
model.first = @near()
model.second = @near()
mesh/banded.extent = 9
banded.extent = 7
train.log_every = 20
"""


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(renamed.migrate, "__defaults__", (RENAMED, {"inner": "run.inner"}))
    path = tmp_path / "config.gin"

    def write(text: str):
        path.write_text(text)
        return path

    return write


def test_old_names_are_replaced_and_told_once(recorded):
    path = recorded(OLD)
    with pytest.warns(JaxgenWarning) as warned:
        built = load_recorded(path, table=TABLE)
    near = Near(7)
    assert built == Run(Model(4, (near, {"a": [near]}), Far(), None), Inner(20, Near(9)))
    (message,) = [str(one.message) for one in warned]
    assert message.count("train.log_every is now inner.log_every") == 1
    assert message.count("banded is now window") == 1
    assert "model.unused is no longer there" in message


def test_todays_names_are_left_alone(recorded):
    path = recorded("run.model = @model()\nmodel.width = 4\nrun.inner = @inner()\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_recorded(path, table=TABLE) == Run(Model(4))


def test_unknown_names_are_still_errors(recorded):
    path = recorded(OLD + "model.withd = 3\n")
    with (
        pytest.warns(JaxgenWarning),
        pytest.raises(ConfigError, match=r"config.gin:11: .*`withd`; did you mean `width`"),
    ):
        load_recorded(path, table=TABLE)


def test_old_names_are_not_in_use_and_new_ones_are():
    table = registered()

    def exists(name: str) -> bool:
        if name in renamed.RENAMED:  # a chain
            return True
        kind, _, field = name.rpartition(".")
        return name in table or (kind in table and field in parameters(table[kind]))

    for old, new in renamed.RENAMED.items():
        if "@" in old:
            assert new is None or exists(new), new
            continue
        kind, _, field = old.rpartition(".")
        assert old not in table and not (kind in table and field in parameters(table[kind])), old
        assert new is None or exists(new), new
    for kind, field in renamed.PARENTS.items():
        assert kind in table and exists(field)


CONFIGS = Path(__file__).parents[1] / "recorded" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.gin")), ids=lambda path: path.stem)
def test_runs_of_before_the_house_was_opened_still_load(path):
    """The files were written by `to_gin` at c72bd0f; a rename needs a line in renamed.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JaxgenWarning)
        run = load_recorded(path)
    expected = {"quickstart": 600, "palm_tiny": 20, "t5_tiny": 20, "deepseek_tiny": 20}
    assert run.train.steps == expected[path.stem]
    assert load_text(to_gin(run)) == run
