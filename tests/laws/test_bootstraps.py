"""Sensitivity, resampling by groups, and laws of downstream tasks with bootstraps."""

import math

import numpy as np
import pytest

from jaxgen.laws import (
    BESIROGLU,
    Fitting,
    HuberLoss,
    LawError,
    Table,
    drop_sizes,
    fit_chinchilla,
    fit_downstream_error,
    fit_overtraining,
    fit_two_step,
    predict_error,
    search_optimum,
    vary_delta,
    vary_parameters,
)

SHORT = Fitting(bootstraps=60, restarts=0)
POINT = Fitting(bootstraps=0)


@pytest.mark.slow
def test_sensitivity(make_runs):
    table = make_runs()
    dropped = drop_sizes(fit_chinchilla, table, POINT)
    assert len(dropped) == 7 and dropped[0].change == "without 5e+07 parameters"
    deltas = vary_delta(fit_chinchilla, table, POINT, [1e-3, math.inf])
    assert [one.change for one in deltas] == ["delta 0.001", "delta inf"]
    spread = fit_chinchilla(table, SHORT).standard_errors["alpha"]
    for one in (*dropped, *deltas):
        assert one.fit is not None
        assert one.fit.parameters["alpha"] == pytest.approx(BESIROGLU["alpha"], abs=3 * spread)


def test_other_counts_of_parameters(make_runs):
    runs = make_runs()
    extra = {"without_embeddings": runs.parameters - 4e7}
    table = Table(runs.parameters, runs.tokens, runs.loss, extra=extra)
    (one,) = vary_parameters(fit_chinchilla, table, ["without_embeddings"], POINT)
    assert one.fit is not None
    assert one.fit.parameters["alpha"] < fit_chinchilla(table, POINT).parameters["alpha"]
    with pytest.raises(LawError, match="column 'nothing' is missing"):
        vary_parameters(fit_chinchilla, table, ["nothing"], POINT)


def test_a_variation_that_fails_says_why(make_runs):
    table = make_runs(sizes=2, ratios=3)
    for one in drop_sizes(fit_chinchilla, table, POINT):
        assert one.fit is None and "5 free parameters and the table 3 points" in one.error


def test_resampling_by_seed_keeps_a_seeds_runs_together(make_runs):
    runs = make_runs(noise=0.0)
    seeds = np.repeat(np.arange(8), len(runs))
    shift = 0.01 * np.random.default_rng(0).standard_normal(8)[seeds]
    table = Table(
        np.tile(runs.parameters, 8),
        np.tile(runs.tokens, 8),
        np.tile(runs.loss, 8) * np.exp(shift),
        seeds=seeds,
    )
    by_seed = Fitting(HuberLoss(math.inf), bootstraps=60, restarts=0, resample="seed")
    by_run = Fitting(HuberLoss(math.inf), bootstraps=60, restarts=0)
    wide = fit_chinchilla(table, by_seed).predict(parameters=1e9, tokens=2e10)
    narrow = fit_chinchilla(table, by_run).predict(parameters=1e9, tokens=2e10)
    # A seed that is off in all its runs is one chance, not as many as there are runs.
    assert wide.upper - wide.lower > 2 * (narrow.upper - narrow.lower)


def test_bootstraps_are_repeatable(make_runs):
    first, second = (fit_chinchilla(make_runs(), SHORT) for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
    other = fit_chinchilla(make_runs(), Fitting(bootstraps=60, restarts=0, seed=1))
    assert not np.array_equal(first.draws, other.draws)


def test_a_new_run_is_less_sure_than_the_curve(make_runs):
    fit = fit_chinchilla(make_runs(), SHORT)
    point = {"parameters": 1e10, "tokens": 2e11}
    curve, run = fit.predict(point), fit.predict(point, of_new_run=True)
    assert run.values == curve.values
    assert run.upper - run.lower > curve.upper - curve.lower
    assert run.of_new_run and not curve.of_new_run
    with pytest.raises(LawError, match="level=95 must be between"):
        fit.predict(point, level=95)


def test_overtraining_with_bootstraps(make_runs):
    law = BESIROGLU | {"beta": BESIROGLU["alpha"]}
    runs = make_runs(noise=0.001, law=law)
    error = 0.85 - 2.2 * np.exp(-0.7 * runs.loss)
    table = Table(runs.parameters, runs.tokens, runs.loss, extra={"error": error})
    fit = fit_overtraining(table, SHORT)
    assert fit.parameters["alpha"] == fit.parameters["beta"]
    assert fit.parameters["alpha"] == pytest.approx(law["alpha"], abs=0.02)
    errors = fit_downstream_error(table, fitting=Fitting(HuberLoss(math.inf, "linear"), 60))
    found = predict_error(fit, errors, parameters=1e10, tokens=1e12)
    loss = law["E"] + law["A"] * 1e10 ** -law["alpha"] + law["B"] * 1e12 ** -law["alpha"]
    assert found.lower[0] <= 0.85 - 2.2 * np.exp(-0.7 * loss) <= found.upper[0]
    assert found.upper[0] - found.lower[0] < 0.01
    # With equal exponents N* is (A / B)^(1 / 2 alpha) (C / 6)^(1 / 2).
    best = (law["A"] / law["B"]) ** (0.5 / law["alpha"]) * (1e22 / 6) ** 0.5
    optimum = search_optimum(fit, 1e22)
    low, high = optimum.parameters_interval[0]
    assert low <= best <= high and high / low < 1.5
    with pytest.raises(LawError, match="needs a law of both"):
        search_optimum(errors, 1e22)


def test_two_steps_with_bootstraps(make_runs):
    table = make_runs(noise=0.001)
    accuracy = 0.95 - 0.7 / (1 + np.exp(-4 * (table.loss - 2.6)))
    fit = fit_two_step(table, table.loss, accuracy, best=None, fitting=SHORT)
    own = fit.accuracy.parameters
    assert own["ceiling"] == pytest.approx(0.95, abs=1e-3)
    assert own["k"] == pytest.approx(4, rel=1e-2)
    found = fit.predict(parameters=2e9, tokens=4e10)
    law = BESIROGLU
    loss = law["E"] + law["A"] * 2e9 ** -law["alpha"] + law["B"] * 4e10 ** -law["beta"]
    assert found.lower[0] <= 0.95 - 0.7 / (1 + np.exp(-4 * (loss - 2.6))) <= found.upper[0]
    assert found.upper[0] - found.lower[0] < 0.005
    with pytest.raises(LawError, match="must be one number a point"):
        fit_two_step(table, table.loss[:3], accuracy)
