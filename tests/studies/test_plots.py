"""Numbers as text, and the axes that both painters of a report share."""

import dataclasses
import json

import pytest

from jaxgen.studies.axes import axis_limits, axis_ticks
from jaxgen.studies.figures import write_figures
from jaxgen.studies.formatting import between, count, number, percent
from jaxgen.studies.page_json import to_json
from jaxgen.studies.plots import Axis, Figure, Fold, Menu, Plot, Section, Series, figures_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.12345), "0.123"),
        (number(41234.0), "41,200"),
        (number(1.5e12), "1.5e12"),
        (number(-2e-5), "-2e-5"),
        (number(0.0), "0"),
        (number(None), "–"),
        (count(999_999), "1M"),
        (count(1_234_567), "1.23M"),
        (count(2e9), "2B"),
        (count(3e16), "3e16"),
        (percent(0.0123), "1.2%"),
        (between([1.23456, None]), "1.23 or more"),
        (between([1.0, 2.5]), "1 to 2.5"),
    ],
)
def test_numbers_read_well(text, expected):
    assert text == expected


@pytest.mark.parametrize("low", [1e-3, 0.7, 1.0, 3.3, 1e11])
@pytest.mark.parametrize("ratio", [1.01, 1.5, 4.0, 30.0, 1e3, 1e9])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_ticks_are_few_round_and_inside(low, ratio, scale):
    limits = low, low * ratio
    ticks = axis_ticks(Axis("x", scale), limits)
    values = [value for value, _ in ticks]
    assert 2 <= len(ticks) <= 8
    assert limits[0] * (1 - 1e-9) <= min(values) and max(values) <= limits[1] * (1 + 1e-9)
    assert len({label for _, label in ticks}) == len(ticks)


def test_limits_hold_whiskers_and_of_a_wide_band_a_part():
    band = Series("line", [1.0, 2.0], [3.0, 4.0], [-100.0, -100.0], [100.0, 100.0])
    whiskers = Series("circle", [1.5], [3.5], [2.0], [6.0])
    plot = Plot(Axis("x"), Axis("y"), (band, whiskers))
    low, high = axis_limits(plot, "y")
    # The points and whiskers reach from 2 to 6; a band may add as much on either side.
    assert -3.0 < low < -2.0 and 10.0 < high < 11.0
    slim = dataclasses.replace(band, low=[1.5, 2.5], high=[3.5, 6.5])
    low, high = axis_limits(Plot(Axis("x"), Axis("y"), (slim, whiskers)), "y")
    assert 1.0 < low < 1.5 and 6.5 < high < 7.0
    inner = dataclasses.replace(band, low=[3.0, 3.5], high=[4.0, 4.5])
    low, high = axis_limits(Plot(Axis("x"), Axis("y"), (inner, whiskers)), "y")
    assert 1.5 < low < 2.0 and 6.0 < high < 6.5  # a band within the points cuts none off
    low, high = axis_limits(Plot(Axis("x", "log"), Axis("y"), (band,)), "x")
    assert 0.9 < low < 1.0 and 2.0 < high < 2.2


def test_a_specification_is_json_and_every_named_figure_a_file(tmp_path):
    plot = Plot(Axis("x", "log"), Axis("y"), (Series("square", [1.0, 10.0], [0.5, None]),))
    blocks = [Fold("more", [Menu("of", {"a": [Figure((plot,), "one/two")], "b": []})])]
    section = Section("s", "S", "s", [*blocks, Figure((plot, plot))])
    found = json.loads(json.dumps(to_json(section), allow_nan=False))
    assert found["blocks"][0]["blocks"][0]["options"]["a"][0]["kind"] == "Figure"
    assert found["blocks"][1]["panels"][0]["x"]["ticks"][0] == [1.0, "1"]
    assert len(list(figures_in(section.blocks))) == 2
    names = [path.name for path in write_figures([section], tmp_path)]
    assert names == ["one_two.pdf", "one_two.png"]
    assert (tmp_path / "one_two.pdf").read_bytes().startswith(b"%PDF")
