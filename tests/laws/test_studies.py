"""Sensitivity, tasks, capabilities, over-training with bootstraps and resampling by groups."""

import math

import numpy as np
import pytest

from jaxgen.laws import (
    BESIROGLU,
    Fitting,
    LawError,
    Objective,
    Table,
    as_components,
    drop_sizes,
    find_capabilities,
    fit_chinchilla,
    fit_downstream_error,
    fit_families,
    fit_overtraining,
    fit_task,
    fit_two_step,
    fix_irreducible,
    predict_error,
    search_optimum,
    vary_delta,
    vary_parameters,
)

SHORT = Fitting(bootstraps=60, restarts=0)
POINT = Fitting(bootstraps=0)


def test_sensitivity(make_runs):
    table = make_runs()
    dropped = drop_sizes(fit_chinchilla, table, POINT)
    assert len(dropped) == 7 and dropped[0].change == "without 5e+07 parameters"
    deltas = vary_delta(fit_chinchilla, table, POINT, [1e-3, math.inf])
    assert [one.change for one in deltas] == ["delta 0.001", "delta inf"]
    for one in (*dropped, *deltas):
        assert one.fit is not None
        assert one.fit.parameters["alpha"] == pytest.approx(BESIROGLU["alpha"], abs=0.1)
    fixed = fix_irreducible(table, [1.7, BESIROGLU["E"]], POINT)
    assert fixed[0].fit is not None and fixed[1].fit is not None
    assert fixed[1].fit.value <= fixed[0].fit.value
    assert fixed[0].fit.parameters["E"] == pytest.approx(1.7)


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
    by_seed = Fitting(Objective(math.inf), bootstraps=60, restarts=0, resample="seed")
    by_run = Fitting(Objective(math.inf), bootstraps=60, restarts=0)
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
    errors = fit_downstream_error(table, fitting=Fitting(Objective(math.inf, "linear"), 60))
    found = predict_error(fit, errors, parameters=1e10, tokens=1e12)
    assert found.lower[0] <= found.values[0] <= found.upper[0]
    assert search_optimum(fit, 1e22).parameters[0] > 1e9
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
    assert found.lower[0] <= found.values[0] <= found.upper[0]
    with pytest.raises(LawError, match="must be one a point"):
        fit_two_step(table, table.loss[:3], accuracy)


class TestObservational:
    @pytest.fixture
    def models(self):
        rng = np.random.default_rng(0)
        flops = np.geomspace(1e20, 1e24, 10)
        families = np.repeat(["one", "two", "three"], 10)
        hidden = np.concatenate([s * np.log(flops) - 50 * s for s in (0.8, 1.0, 1.3)]) / 4
        side = rng.standard_normal(30) / 10
        loadings = rng.uniform(0.5, 1.5, (2, 8))
        scores = np.outer(hidden, loadings[0]) + np.outer(side, loadings[1])
        scores = 0.5 + scores / 40 + 0.002 * rng.standard_normal(scores.shape)
        return scores, np.tile(flops, 3), families

    def test_components_families_and_tasks(self, models):
        scores, flops, families = models
        found = find_capabilities(scores, 2)
        assert found.explained[0] > 0.9 and found.explained.sum() > 0.99
        np.testing.assert_allclose(found.project(scores), found.scores, atol=1e-12)
        lines = fit_families(found.scores, flops, list(families))
        assert [line.name for line in lines] == ["one", "two", "three"]
        assert all(line.r_squared[0] > 0.95 for line in lines)
        known = lines[0].capabilities([1e22])[0, 0]
        assert lines[0].equivalent_flops(known) == pytest.approx(1e22)
        score = 0.25 + 0.75 / (1 + np.exp(-20 * found.scores[:, 0]))
        for floor in (0.25, None):
            fit = fit_task(found.scores, score, floor)
            assert fit.parameters["weight1"] == pytest.approx(20, rel=1e-3)
            np.testing.assert_allclose(fit.residuals, 0, atol=1e-4)
        new = fit.predict(as_components(found.scores[:3]))
        np.testing.assert_allclose(new.values, score[:3], atol=1e-3)

    def test_missing_scores_are_filled_in(self, models):
        scores, *_ = models
        holes = scores.copy()
        holes[[1, 7, 20], [2, 5, 0]] = np.nan
        full, filled = find_capabilities(scores, 2), find_capabilities(holes, 2)
        np.testing.assert_allclose(filled.scores[:, 0], full.scores[:, 0], atol=0.01)

    def test_what_it_refuses(self, models):
        scores, *_ = models
        with pytest.raises(LawError, match="9 components need"):
            find_capabilities(scores, 9)
        scores = scores.copy()
        scores[:, 0] = np.nan
        with pytest.raises(LawError, match="no score at all"):
            find_capabilities(scores)
        with pytest.raises(LawError, match=r"floor=1\.0"):
            fit_task(np.zeros((5, 1)), np.zeros(5), 1.0)
