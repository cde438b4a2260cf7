"""Known truths come back, and 95 % intervals hold them as often as they say."""

import numpy as np
import pytest

from jaxgen.laws import (
    BESIROGLU,
    CHINCHILLA,
    Fitting,
    LawError,
    Table,
    backtest,
    chinchilla_frontier,
    fit_chinchilla,
    fit_isoflop,
)

EXPONENT = BESIROGLU["beta"] / (BESIROGLU["alpha"] + BESIROGLU["beta"])
BUDGETS = np.geomspace(1e18, 1e21, 7)


def isoflop_runs(noise, seed, sizes=7, reach=1.2):
    """Sizes about the best of each budget, off it by up to a fifth of a step."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(-reach, reach, sizes)
    truth = CHINCHILLA.vector(BESIROGLU)
    ratio = BESIROGLU["alpha"] * BESIROGLU["A"] / (BESIROGLU["beta"] * BESIROGLU["B"])
    log_g = np.log(ratio) / (BESIROGLU["alpha"] + BESIROGLU["beta"])
    best = (
        log_g
        + EXPONENT * np.log(BUDGETS / 6)
        + 0.2 * (steps[1] - steps[0]) * rng.uniform(-1, 1, len(BUDGETS))
    )
    size = np.exp((best[:, None] + steps).ravel())
    tokens = np.repeat(BUDGETS, sizes) / 6 / size
    loss = CHINCHILLA.values({"parameters": size, "tokens": tokens}, truth)
    return Table(size, tokens, loss * np.exp(noise * rng.standard_normal(len(loss))))


def test_without_noise_the_truth_is_found(make_runs):
    fit = fit_chinchilla(make_runs(noise=0.0), Fitting(bootstraps=0))
    for name, value in BESIROGLU.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-4)
    assert fit.r_squared == pytest.approx(1, abs=1e-9)


def test_second_approach_without_noise():
    for curve in ("quadratic", "local", "akima"):
        fit = fit_isoflop(isoflop_runs(0.0, 0), curve, noise=0.001)
        assert fit.frontier.exponent == pytest.approx(EXPONENT, abs=0.02)
        assert all(not budget.dropped for budget in fit.budgets)


def cover_third(draws, make_runs, noise):
    """Part of the draws whose 95 % interval holds the truth, by parameter."""
    held = {}
    for draw in range(draws):
        table = make_runs(noise=noise, seed=1000 + draw)
        fit = fit_chinchilla(table, Fitting(bootstraps=200, restarts=0, seed=draw))
        for name, (low, high) in fit.intervals().items():
            held.setdefault(name, []).append(low <= BESIROGLU[name] <= high)
        low, high = chinchilla_frontier(fit).exponent_interval()
        held.setdefault("a", []).append(low <= EXPONENT <= high)
    return {name: float(np.mean(values)) for name, values in held.items()}


def cover_second(draws, curve, noise):
    held = []
    for draw in range(draws):
        fit = fit_isoflop(isoflop_runs(noise, 500 + draw), curve, bootstraps=400, seed=draw)
        low, high = fit.frontier.exponent_interval()
        held.append(low <= EXPONENT <= high)
    return float(np.mean(held))


@pytest.mark.slow
def test_coverage_in_short(make_runs):
    """30 draws: a true 95 % gives fewer than 25 once in three thousand times."""
    assert min(cover_third(30, make_runs, 0.003).values()) >= 25 / 30
    assert cover_second(60, "quadratic", 0.002) >= 52 / 60


@pytest.mark.slow
def test_coverage_of_the_third_approach(make_runs):
    for name, part in cover_third(200, make_runs, 0.003).items():
        assert 0.90 <= part <= 0.98, name


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "draws"), [("quadratic", 2400), ("local", 2400), ("akima", 400)])
@pytest.mark.parametrize("noise", [0.0005, 0.005])
def test_coverage_of_the_second_approach(curve, draws, noise):
    assert 0.90 <= cover_second(draws, curve, noise) <= 0.98


@pytest.mark.slow
def test_new_runs_fall_within_their_intervals(make_runs):
    """Of 20 tables' 5 new runs each, the intervals at 95 % hold about as many."""
    held = []
    for seed in range(20):
        fit = fit_chinchilla(make_runs(seed=seed), Fitting(bootstraps=100, restarts=0))
        new = make_runs(seed=1000 + seed)
        rows = new.select([3, 11, 20, 29, 38])
        said = fit.predict(of_new_run=True, parameters=rows.parameters, tokens=rows.tokens)
        held.append((said.lower <= rows.loss) & (rows.loss <= said.upper))
    assert 0.88 <= np.mean(held) <= 1.0


@pytest.mark.slow
def test_rolling_origin(make_runs):
    def fit(table):
        return fit_chinchilla(table, Fitting(bootstraps=100, restarts=0))

    # Runs of one table share its fit's error, so the coverage of one table says little.
    backtests = [backtest(fit, make_runs(0.002, seed, sizes=9, ratios=8)) for seed in range(10)]
    assert 0.85 <= np.mean([one.coverage for one in backtests]) <= 1.0
    for held_out in backtests:
        assert len(held_out.origins) == 3
        assert held_out.mean_error < 0.02
        for origin in held_out.origins:
            assert origin.fit.points + len(origin.held_out) == 72
    with pytest.raises(LawError, match="can be tested"):
        backtest(fit, make_runs(), origins=[1e15])
