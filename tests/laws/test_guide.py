"""The examples of docs/laws.md run, in order, and give what the guide says."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from jaxgen import emergence, laws

GUIDE = Path(__file__).parents[2] / "docs" / "laws.md"


@pytest.fixture(scope="module")
def names():
    """The variables that the guide's blocks of code leave behind."""
    found = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), found)
    return found


def test_the_law_that_made_the_losses_is_found(names):
    intervals = names["fit"].intervals()
    for name, value in laws.BESIROGLU.items():
        assert intervals[name][0] < value < intervals[name][1]
    exponent = laws.BESIROGLU["beta"] / (laws.BESIROGLU["alpha"] + laws.BESIROGLU["beta"])
    low, high = names["frontier"].exponent_interval()
    assert low < exponent < high
    assert names["isoflop"].frontier.exponent == pytest.approx(exponent, abs=0.01)


def test_laws_of_ones_own_fit(names):
    assert names["moe"].r_squared > 0.95
    fixed = laws.fit_table(names["floor"], names["table"], laws.Fitting(bootstraps=0))
    assert fixed.parameters["E"] == pytest.approx(1.7)
    table = names["table"]
    squares = laws.Fitting(laws.HuberLoss(math.inf), bootstraps=0)
    line = laws.fit_law(names["straight"], table.columns, table.loss, squares)
    slope, constant = np.polyfit(np.log(table.flops), np.log(table.loss), 1)
    assert line.parameters == pytest.approx({"a": constant, "b": -slope})


def test_the_smooth_task_is_explained_by_the_metric(names):
    assert names["verdict"].verdict == emergence.EXPLAINED


@pytest.mark.parametrize("room", [laws, emergence])
def test_public_names_are_documented_or_used_by_a_study(room):
    """Names without a user leave `__all__`; classes of results need not be imported."""
    package = Path(laws.__file__).parents[1]
    text = GUIDE.read_text(encoding="utf-8")
    for path in (package / "studies").rglob("*.py"):
        text += path.read_text(encoding="utf-8")
    unused = [name for name in room.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not unused
