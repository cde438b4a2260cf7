"""The first two approaches: their rules, and what they refuse."""

import numpy as np
import pytest

from jaxgen.laws import BESIROGLU, CHINCHILLA, LawError, Table, fit_envelope, fit_isoflop

SIZES = np.geomspace(1e8, 1e9, 7)


def budget(flops, losses, sizes=SIZES):
    return Table(sizes, flops / 6 / sizes, losses)


def join(*tables):
    return Table(
        np.concatenate([table.parameters for table in tables]),
        np.concatenate([table.tokens for table in tables]),
        np.concatenate([table.loss for table in tables]),
    )


def bowl(middle, least=3.0):
    """A parabola in ln N and the log loss, with its least at a size."""
    return least * np.exp(0.05 * (np.log(SIZES) - np.log(middle)) ** 2)


@pytest.mark.parametrize("curve", ["quadratic", "local", "akima"])
def test_minima_of_parabolas_are_exact(curve):
    table = join(budget(1e18, bowl(2e8)), budget(1e19, bowl(4e8)), budget(1e20, bowl(8e8)))
    fit = fit_isoflop(table, curve, noise=0.001, bootstraps=100)
    found = [one.parameters for one in fit.budgets]
    np.testing.assert_allclose(found, [2e8, 4e8, 8e8], rtol=1e-6 if curve != "akima" else 0.02)
    assert fit.frontier.exponent == pytest.approx(np.log(2) / np.log(10), abs=0.01)
    assert fit.frontier.tokens_exponent == pytest.approx(1 - fit.frontier.exponent)
    best = fit.frontier.optimum([1e19, 1e22])
    assert best.parameters[0] == pytest.approx(4e8, rel=0.02)
    assert best.parameters[0] * best.tokens[0] * 6 == pytest.approx(1e19)
    assert best.is_extrapolated.tolist() == [False, True]
    low, high = best.parameters_interval[0]
    assert low < 4e8 < high


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (bowl(3e9), "the minimum is at the edge of the sizes"),
        (bowl(3e7), "the minimum is at the edge of the sizes"),
        (6 / bowl(3e8), "the parabola opens downward"),
    ],
)
def test_bad_budgets_are_dropped_with_the_reason(losses, reason):
    table = join(budget(1e18, bowl(2e8)), budget(1e19, losses), budget(1e20, bowl(8e8)))
    fit = fit_isoflop(table, noise=0.001, bootstraps=50)
    assert [one.dropped for one in fit.budgets] == ["", reason, ""]
    assert np.isnan(fit.budgets[1].parameters)
    assert fit.frontier.exponent == pytest.approx(np.log(4) / np.log(100), abs=1e-3)


def test_akima_drops_a_minimum_at_the_edge():
    table = join(budget(1e18, bowl(2e8)), budget(1e19, bowl(3e9)), budget(1e20, bowl(8e8)))
    fit = fit_isoflop(table, "akima", noise=0.001, bootstraps=50)
    assert fit.budgets[1].dropped == "the minimum is at the edge of the sizes"


def test_named_budgets_leave_out_what_is_far_from_them():
    table = join(budget(1e18, bowl(2e8)), budget(1.5e18, bowl(3e8)), budget(1e20, bowl(8e8)))
    fit = fit_isoflop(table, budgets=[1e18, 1e20], noise=0.001, bootstraps=0)
    assert [round(np.log10(one.flops)) for one in fit.budgets] == [18, 20]
    assert len(fit.frontier.exponent_draws) == 0 and np.isnan(fit.frontier.standard_error)


def test_noise_is_estimated():
    rng = np.random.default_rng(0)
    tables = [
        budget(flops, bowl(2e8 * (flops / 1e18) ** 0.3) * np.exp(0.004 * rng.standard_normal(7)))
        for flops in np.geomspace(1e18, 1e20, 12)
    ]
    assert fit_isoflop(join(*tables), bootstraps=20).noise == pytest.approx(0.004, rel=0.4)


def test_what_isoflops_refuse():
    table = join(budget(1e18, bowl(2e8)), budget(1e19, bowl(3e9)))
    with pytest.raises(LawError, match="fewer than two budgets have a minimum"):
        fit_isoflop(table, bootstraps=10)
    with pytest.raises(LawError, match="curve='cubic' must be one of"):
        fit_isoflop(table, "cubic")
    three = [budget(flops, bowl(3e8)[::3], SIZES[::3]) for flops in (1e18, 1e19)]
    with pytest.raises(LawError, match="noise of a run cannot be estimated"):
        fit_isoflop(join(*three))
    with pytest.raises(LawError, match="no budget has 3 runs"):
        fit_isoflop(Table(SIZES, 20 * SIZES, bowl(3e8)))


class TestEnvelope:
    @pytest.fixture
    def curves(self):
        sizes = np.repeat(np.geomspace(1e7, 1e10, 24), 120)
        tokens = np.tile(np.geomspace(1e7, 1e12, 120), 24)
        columns = {"parameters": sizes, "tokens": tokens}
        loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
        return Table(sizes, tokens, loss, runs=np.repeat(np.arange(24), 120))

    def test_exponent(self, curves):
        fit = fit_envelope(curves, bootstraps=50)
        assert fit.frontier.exponent == pytest.approx(0.5126, abs=0.02)
        low, high = fit.frontier.exponent_interval()
        assert low < 0.5126 < high
        assert np.all(np.diff(fit.loss) <= 1e-9)
        np.testing.assert_allclose(6 * fit.parameters * fit.tokens, fit.flops, rtol=1e-6)

    def test_ends_do_not_count(self, curves):
        inner = fit_envelope(curves, bootstraps=0)
        assert {"0", "23"}.isdisjoint(inner.winners)
        assert {"0", "23"} <= set(fit_envelope(curves, bootstraps=0, is_inner=False).winners)

    def test_what_it_refuses(self, curves):
        with pytest.raises(LawError, match=r"needs Table\.runs"):
            fit_envelope(Table(curves.parameters, curves.tokens, curves.loss))
        with pytest.raises(LawError, match="fewer than two sizes"):
            fit_envelope(curves.select(curves.runs < 2))
