"""Trends, BIG-bench scores and the law of fine-tuned models, against closed forms."""

import dataclasses

import numpy as np
import pytest

from jaxgen.emergence import (
    EmergenceError,
    Runs,
    breakthroughness,
    curve_shapes,
    fit_emergence_law,
    fit_trend,
    linearity,
)
from jaxgen.emergence.comparison import left_out_error
from jaxgen.emergence.trends import LAWS, find_break


def runs_of(values, seeds=1):
    values = np.asarray(values, float)
    rung = np.repeat(np.arange(len(values)), seeds)
    return Runs(
        task="t",
        chance=0.0,
        scale=10.0 ** np.arange(len(values)),
        axis="parameters",
        rung=rung,
        seed=np.tile(np.arange(seeds), len(values)).astype(str),
        instances=np.full(len(rung), 100.0),
        metrics={"y": values[rung]},
    )


X = np.linspace(0, 1, 9)
CURVES = {
    "straight": 3 - 2 * X,
    "power": 1 + 2 * np.exp(-2.3 * X),
    "bend": 1 / (1 + np.exp(-6 * (X - 0.5))),
    "hinge": 2 - 3 * np.maximum(0, X - 0.42),
    "step": 1 / (1 + np.exp(-60 * (X - 0.4))),
    "drop": 1 + 0.5 * np.minimum(X, 0.6) + 1 / (1 + np.exp(-80 * (X - 0.6))),
}


@pytest.mark.parametrize("law", LAWS)
def test_each_law_fits_its_own_curve(law):
    assert fit_trend(runs_of(CURVES[law]), "y").residual[law] < 0.01


@pytest.mark.parametrize("law", ["straight", "power", "bend"])
def test_gradual_curves_are_predicted_without_a_break(law):
    trend = fit_trend(runs_of(CURVES[law]), "y")
    assert trend.heldout[trend.gradual] < 0.01


@pytest.mark.parametrize(("law", "at"), [("hinge", 0.42), ("step", 0.4), ("drop", 0.6)])
def test_a_break_has_its_place(law, at):
    place = fit_trend(runs_of(CURVES[law]), "y").places[law]
    # Between two scales, an eighth of the range apart, a sharp change can be anywhere.
    assert place.low <= place.value <= place.high
    assert np.log10([place.low, place.high]) / 8 == pytest.approx(at, abs=0.125)
    assert np.log10(place.value) / 8 == pytest.approx(at, abs=0.07)


def test_on_the_loss_axis_a_break_is_at_a_loss():
    runs = runs_of(CURVES["step"][::-1])
    falling = dataclasses.replace(runs, axis="loss", scale=8.0 - np.arange(9) / 2)
    place = fit_trend(falling, "y").places["step"]
    assert place.low <= place.value <= place.high and 5.0 <= place.value <= 5.7


def test_a_noisy_break_is_where_its_interval_says():
    random, inside = np.random.default_rng(0), 0
    for _ in range(200):
        at = random.uniform(0.3, 0.7)
        noisy = 1 / (1 + np.exp(-60 * (X - at))) + random.normal(0, 0.035, len(X))
        low, _, high = find_break("step", X, noisy, 0.035)
        inside += low <= at <= high
    assert 0.9 * 200 <= inside <= 0.99 * 200


@pytest.mark.parametrize("law", ["hinge", "step", "drop"])
def test_sudden_curves_are_described_with_a_break(law):
    trend = fit_trend(runs_of(CURVES[law]), "y")
    best = min(trend.residual[one] for one in ("straight", "power", "bend"))
    assert trend.residual[law] < best / 2


def test_trends_need_scales_and_a_change():
    with pytest.raises(EmergenceError, match="5 scales"):
        fit_trend(runs_of(np.arange(5)), "y")
    with pytest.raises(EmergenceError, match="at every scale"):
        fit_trend(runs_of(np.ones(8)), "y")


def test_scores_of_known_curves():
    assert linearity(np.arange(7)) == pytest.approx(1)
    assert breakthroughness(np.arange(7)) == pytest.approx(6)
    assert breakthroughness(-np.arange(7)) == pytest.approx(-6)
    assert breakthroughness(np.array([0, 0, 0, 0, 1.0])) == 100
    assert breakthroughness(np.ones(5)) == linearity(np.ones(5)) == 0


def test_scores_as_published_for_the_testbeds():
    """The lookup8 and one-layer mqar8 curves of testbeds.md, and the scores printed there."""
    exact = np.array([0, 0, 0, 0.082, 0.549, 0.996, 1, 1])
    accuracy = np.array([0.058, 0.278, 0.352, 0.722, 0.927, 1, 1, 1])
    assert breakthroughness(exact) == 100
    assert linearity(exact) == pytest.approx(0.58, abs=0.005)
    assert breakthroughness(accuracy) == pytest.approx(12.7, abs=0.2)
    assert linearity(accuracy) == pytest.approx(0.73, abs=0.005)
    one_layer = np.array([0.088, 0.143, 0.185, 0.197, 0.201, 0.210, 0.209])
    assert breakthroughness(one_layer) == pytest.approx(11.8, rel=0.15)  # of three digits
    assert linearity(one_layer) == pytest.approx(0.70, abs=0.01)


def test_scores_for_each_seed():
    found = curve_shapes(runs_of(np.arange(7), seeds=3), "y")
    assert [one.seed for one in found] == [None, "0", "1", "2"]
    with pytest.raises(EmergenceError):
        linearity(np.array([1.0]))


def finetuned(noise, seed=0):
    """7 models of losses 2.0 to 3.2, each fine-tuned on 6 numbers of examples."""
    random = np.random.default_rng(seed)
    loss, examples = np.meshgrid(np.linspace(2.0, 3.2, 7), [10, 30, 100, 300, 1000, 3000])
    threshold = 0.08 * np.log(examples) ** 1.2 + 1.9
    performance = 0.6 * np.maximum(0, threshold - loss) + 0.25
    performance = performance + random.normal(0, noise, loss.shape)
    model = np.broadcast_to(np.arange(7), loss.shape)
    return [part.ravel() for part in (model, loss, examples, performance)]


def test_emergence_law_is_found():
    law = fit_emergence_law(*finetuned(0), chance=0.25, draws=0)
    assert law.slope == pytest.approx(0.6, rel=1e-3)
    assert law.rate == pytest.approx(0.08, rel=1e-2)
    assert law.power == pytest.approx(1.2, rel=1e-2)
    assert law.few_shot == pytest.approx(1.9, abs=1e-2)
    assert law.threshold(1) == pytest.approx(1.9, abs=1e-2)
    assert law.performance(np.array(2.0), np.array(1000.0)) == pytest.approx(
        0.25 + 0.6 * (0.08 * np.log(1000) ** 1.2 - 0.1), abs=1e-3
    )


def test_emergence_law_says_how_sure_it_is():
    law = fit_emergence_law(*finetuned(0.01), chance=0.25, draws=40)
    assert law.intervals["few_shot"].contains(1.9)
    assert law.intervals["slope"].contains(0.6)
    assert law.intervals["few_shot"].high - law.intervals["few_shot"].low < 0.6


def test_emergence_law_refuses_too_little():
    model, loss, examples, performance = finetuned(0)
    few = model < 2
    with pytest.raises(EmergenceError, match="2 models"):
        fit_emergence_law(model[few], loss[few], examples[few], performance[few], 0.25)
    with pytest.raises(EmergenceError, match="above chance"):
        fit_emergence_law(model, loss, examples, np.full(len(loss), 0.25), 0.25)
    with pytest.raises(EmergenceError, match="examples 1 or more"):
        fit_emergence_law(model, loss, examples * 0, performance, 0.25)


def test_left_out_error_is_that_of_leaving_out():
    random = np.random.default_rng(0)
    x, y = random.normal(size=12), random.normal(size=12)
    errors = []
    for out in range(12):
        kept = np.arange(12) != out
        errors.append(np.polyval(np.polyfit(x[kept], y[kept], 1), x[out]) - y[out])
    assert left_out_error(x, y) == pytest.approx(np.sqrt(np.mean(np.square(errors))))
