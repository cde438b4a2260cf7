"""Models whose tokens cost other than 6N: the best size against a search of the law itself."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxgen.laws import (
    CHINCHILLA,
    Fitting,
    Table,
    TokenFlops,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_chinchilla,
    fit_isoflop,
    token_flops_of,
)

LAW = {"A": 40.0, "B": 60.0, "E": 1.2, "alpha": 0.35, "beta": 0.4}
COSTS = TokenFlops(40.0, 0.85)
BUDGETS = np.geomspace(1e11, 1e13, 5)
SIZES = np.geomspace(1e4, 3e7, 30)


def loss(sizes, tokens):
    columns = {"parameters": np.asarray(sizes), "tokens": np.asarray(tokens)}
    return CHINCHILLA.values(columns, CHINCHILLA.vector(LAW))


def best_size(flops):
    """By golden section, without any closed form."""

    def at(log_size):
        size = np.exp([log_size])
        return loss(size, flops / COSTS.of(size))[0]

    return np.exp(minimize_scalar(at, bounds=(np.log(1e3), np.log(1e9)), method="bounded").x)  # pyright: ignore


@pytest.fixture(scope="module")
def table():
    """About the best size of each budget, where a loss curve is nearly a parabola."""
    sizes = np.concatenate([best_size(flops) * np.geomspace(0.7, 1.4, 5) for flops in BUDGETS])
    flops = np.repeat(BUDGETS, 5)
    tokens = flops / COSTS.of(sizes)
    return Table(sizes, tokens, loss(sizes, tokens), flops)


def test_the_cost_of_a_token_is_read_off_the_runs(table):
    found = token_flops_of(table)
    assert found.factor == pytest.approx(40) and found.exponent == pytest.approx(0.85)
    plain = token_flops_of(Table(SIZES, 20 * SIZES, loss(SIZES, 20 * SIZES)))
    assert plain.factor == pytest.approx(6) and plain.exponent == pytest.approx(1)
    one = token_flops_of(Table(np.full(2, 1e6), [1e7, 2e7], [3.0, 2.9], [7e13, 14e13]))  # pyright: ignore
    assert (one.factor, one.exponent) == (pytest.approx(7), 1)


def test_both_approaches_find_the_best_size(table):
    true = np.array([best_size(flops) for flops in BUDGETS])
    exponent = np.polyfit(np.log(BUDGETS), np.log(true), 1)[0]
    fit = fit_chinchilla(table, Fitting(bootstraps=0))
    third = chinchilla_frontier(fit, COSTS)
    second = fit_isoflop(table, noise=1e-3, bootstraps=20).frontier
    for frontier, tolerance in ((third, 1e-3), (second, 0.01)):
        assert frontier.exponent == pytest.approx(exponent, abs=tolerance)
        found = frontier.optimum(BUDGETS)
        np.testing.assert_allclose(found.parameters, true, rtol=0.03)
        np.testing.assert_allclose(found.tokens, BUDGETS / COSTS.of(true), rtol=0.03)
    slope = np.polyfit(np.log(BUDGETS), np.log(BUDGETS / COSTS.of(true)), 1)[0]
    assert third.tokens_exponent == pytest.approx(slope, abs=1e-3)
    low, high = second.tokens_exponent_interval()
    assert low < second.tokens_exponent < high
    reached = chinchilla_optimum(fit, BUDGETS, token_flops=COSTS).loss
    np.testing.assert_allclose(reached, loss(true, BUDGETS / COSTS.of(true)), rtol=1e-4)
