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
        fit_isoflop(table, bootstraps=20)
    with pytest.raises(LawError, match="curve='cubic' must be one of"):
        fit_isoflop(table, "cubic")
    three = [budget(flops, bowl(3e8)[::3], SIZES[::3]) for flops in (1e18, 1e19)]
    with pytest.raises(LawError, match="noise of a run cannot be estimated"):
        fit_isoflop(join(*three))
    with pytest.raises(LawError, match="no budget has 3 runs"):
        fit_isoflop(Table(SIZES, 20 * SIZES, bowl(3e8)))


def isoflops(flops, jitter=0.0, noise=1e-3, sizes=7, seed=0):
    """Chinchilla's losses at several sizes of each budget, in random order."""
    rng = np.random.default_rng(seed)
    flops = np.asarray(flops, float)
    size = (0.1 * flops[:, None] ** 0.51 * np.geomspace(0.4, 2.5, sizes)).ravel()
    compute = np.repeat(flops, sizes) * np.exp(jitter * rng.uniform(-1, 1, len(size)))
    columns = {"parameters": size, "tokens": compute / 6 / size}
    loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
    loss = loss * np.exp(noise * rng.standard_normal(len(size)))
    return Table(size, columns["tokens"], loss).select(rng.permutation(len(size)))


ALIKE = Table(np.full(4, 1e9), np.full(4, 1e9), np.linspace(3, 3.3, 4))
"""Runs of one size and one compute."""


class TestGrouping:
    @pytest.mark.parametrize("jitter", [0.0, 1e-6, 1e-3, 0.02])
    @pytest.mark.parametrize("ratio", [1.1, 1.22, 3.0])
    def test_budgets_close_together_stay_apart(self, ratio, jitter):
        steps = ratio ** np.arange(6)
        table = isoflops([*(1e18 * steps), *(1e22 * steps)], jitter)
        fit = fit_isoflop(table, bootstraps=0)
        assert len(fit.budgets) == 12 and fit.grouping.startswith("12 budgets")
        for budget in fit.budgets:
            assert len(budget.rows) == 7
            assert np.ptp(np.log(table.flops[budget.rows])) <= 2 * jitter + 1e-9

    def test_loose_budgets_far_apart_stay_whole(self):
        fit = fit_isoflop(isoflops([1e18, 1e19, 1e20], jitter=0.1), bootstraps=0)
        assert [len(one.rows) for one in fit.budgets] == [7, 7, 7]
        assert "FLOPs differ by up to" in " ".join(fit.warnings)

    def test_one_loose_budget_among_exact_ones_stays_whole(self):
        exact = isoflops(1e18 * 1.3 ** np.arange(5))
        loose = isoflops([1e18 * 1.3**5], jitter=0.02)
        fit = fit_isoflop(join(exact, loose), bootstraps=0)
        assert [len(one.rows) for one in fit.budgets] == [7] * 6

    def test_runs_beside_the_budgets_are_counted(self):
        table = join(isoflops([1e18, 1e19, 1e20]), Table([1e9], [3e10], [2.9]))  # pyright: ignore
        fit = fit_isoflop(table, bootstraps=0)
        assert len(fit.budgets) == 3 and "1 of 22 runs belong to none" in fit.grouping

    @pytest.mark.parametrize(
        ("table", "cause"),
        [
            (isoflops(np.geomspace(1e18, 1e20, 40), sizes=2), "40 numbers of FLOPs, each at most"),
            (isoflops(np.geomspace(1e18, 1e20, 60), sizes=1), "without gaps that tell budgets"),
            (isoflops([1e18, 1.2e18, 1.44e18], jitter=0.15), "without gaps that tell budgets"),
            (ALIKE, "no budget has 3 sizes"),
        ],
    )  # fmt: skip
    def test_a_refusal_names_its_cause(self, table, cause):
        with pytest.raises(LawError, match=cause):
            fit_isoflop(table)

    def test_named_budgets_without_runs(self):
        with pytest.raises(LawError, match="no run is within 13"):
            fit_isoflop(isoflops([1e18, 1e19]), budgets=[1e21])
        with pytest.raises(LawError, match="names no budget"):
            fit_isoflop(isoflops([1e18, 1e19]), budgets=[])


class TestWeights:
    @pytest.mark.parametrize("weights", ["equal", "variance"])
    @pytest.mark.parametrize("curve", ["quadratic", "local", "akima"])
    def test_bootstraps_seed_and_order_move_no_estimate(self, curve, weights):
        table = isoflops(np.geomspace(1e18, 1e21, 6), noise=5e-3, seed=3)
        rows = np.random.default_rng(1).permutation(len(table))
        first = fit_isoflop(table, curve, bootstraps=0, weights=weights)
        for other in (
            fit_isoflop(table, curve, bootstraps=300, weights=weights),
            fit_isoflop(table, curve, bootstraps=50, seed=7, weights=weights),
            fit_isoflop(table.select(rows), curve, bootstraps=50, weights=weights),
        ):
            for name in ("exponent", "log_size", "tokens_coefficient"):
                assert getattr(other.frontier, name) == pytest.approx(
                    getattr(first.frontier, name), rel=1e-9
                )
            assert (other.scatter, other.excess) == pytest.approx((first.scatter, first.excess))
        assert first.weights == weights

    def test_equal_weights_are_the_line_through_the_minima(self):
        fit = fit_isoflop(isoflops(np.geomspace(1e18, 1e21, 6), noise=5e-3), bootstraps=0)
        kept = [one for one in fit.budgets if not one.dropped]
        logs = np.log([[one.flops, one.parameters] for one in kept])
        slope, constant = np.polyfit(logs[:, 0], logs[:, 1], 1)
        assert fit.frontier.exponent == pytest.approx(slope)
        assert fit.frontier.coefficient == pytest.approx(np.exp(constant))

    def test_an_excess_of_scatter_is_found_told_and_weighed(self):
        """Minima far off the line for their noise: the exact ones no longer decide alone."""
        off = np.exp(np.array([0.5, -0.5, 0.5, -0.5, 0.5, -0.5]))
        flops = np.geomspace(1e18, 1e20, 6)
        best = 2e8 * (flops / 1e18) ** 0.3 * off
        table = join(*(budget(at, bowl(size)) for at, size in zip(flops, best, strict=True)))
        fit = fit_isoflop(table, noise=1e-4, weights="variance", bootstraps=200)
        assert fit.scatter > 10 and fit.excess == pytest.approx(0.55, abs=0.1)
        assert "scatter about the line" in fit.warnings[0]
        low, high = fit.frontier.exponent_interval()
        assert high - low > 0.2
        quiet = fit_isoflop(table, noise=1.0, bootstraps=200)
        assert quiet.excess == 0 and "scatter" not in " ".join(quiet.warnings)

    def test_losses_that_are_no_curves_of_the_size_are_told(self):
        table = isoflops(np.geomspace(1e18, 1e21, 6), noise=5e-3)
        for noise, told in ((2e-3, True), (5e-3, False), (2e-2, False), (None, False)):
            warnings = " ".join(fit_isoflop(table, noise=noise, bootstraps=0).warnings)
            assert ("noise=0.002 was given" in warnings) == told

    def test_what_a_result_knows_of_the_best_models(self):
        fit = fit_isoflop(isoflops(np.geomspace(1e18, 1e22, 8), noise=0), noise=1e-3, bootstraps=0)
        frontier, law = fit.frontier, BESIROGLU
        best = frontier.optimum(1e20)
        assert best.tokens[0] == pytest.approx(
            frontier.tokens_coefficient * 1e20**frontier.tokens_exponent
        )
        true = law["E"] + sum(
            law[k] * x ** -law[p]
            for k, x, p in (
                ("A", best.parameters[0], "alpha"),
                ("B", best.tokens[0], "beta"),
            )
        )
        assert frontier.best_loss is not None
        assert best.loss[0] == frontier.best_loss.at(1e20) == pytest.approx(true, rel=2e-3)

    def test_what_cannot_be_is_refused(self):
        table = isoflops([1e18, 1e19, 1e20])
        with pytest.raises(LawError, match="weights='even' must be one of equal, variance"):
            fit_isoflop(table, weights="even")
        with pytest.raises(LawError, match="noise=nan"):
            fit_isoflop(table, noise=float("nan"))
        flat = Table(table.parameters, table.tokens, np.full(len(table), 2.5))
        with pytest.raises(LawError, match=r"the loss is 2\.5 in all 21 rows"):
            fit_isoflop(flat)
        upside = Table(table.parameters, table.tokens, 6 / table.loss)
        with pytest.raises(LawError, match="An accuracy has maxima"):
            fit_isoflop(upside)


def test_many_close_sizes_make_no_chain():
    sizes = np.array([2e8 * 1.03**step for step in range(24)])
    tables = []
    for flops, middle in ((1e18, 2.5e8), (1e19, 3e8)):
        losses = 3 * np.exp(0.05 * (np.log(sizes) - np.log(middle)) ** 2)
        tables.append(budget(flops, losses, sizes))
    for curve in ("quadratic", "akima"):
        fit = fit_isoflop(join(*tables), curve, noise=1e-4, bootstraps=0)
        found = [one.parameters for one in fit.budgets]
        np.testing.assert_allclose(found, [2.5e8, 3e8], rtol=0.02)


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
