"""Results as text, values and pictures: short, complete, and with their warnings."""

import json

import numpy as np
import pytest

from jaxgen.laws import (
    BESIROGLU,
    CHINCHILLA,
    Fitting,
    LawError,
    Table,
    TokenFlops,
    backtest,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_chinchilla,
    fit_envelope,
    fit_isoflop,
    fit_kaplan,
    fit_two_step,
    search_optimum,
)

FEW = Fitting(bootstraps=30, restarts=0)


@pytest.fixture(scope="module")
def tied():
    sizes = np.geomspace(1e7, 1e10, 12)
    columns = {"parameters": sizes, "tokens": 20 * sizes}
    loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
    return Table(sizes, 20 * sizes, loss * np.exp(0.003 * np.cos(np.arange(12))))


@pytest.fixture(scope="module")
def isoflop():
    budgets = np.repeat(np.geomspace(1e18, 1e21, 9), 7)
    size = 0.1 * budgets**0.51 * np.tile(np.geomspace(0.2, 5, 7), 9)
    columns = {"parameters": size, "tokens": budgets / 6 / size}
    loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
    off = np.repeat(np.random.default_rng(0).uniform(-0.01, 0.01, 9), 7)
    return Table(size, budgets / 6 / size, loss * np.exp(off * np.log(size / 1e9)))


@pytest.fixture(scope="module")
def curves():
    sizes = np.repeat(np.geomspace(1e7, 1e9, 8), 40)
    tokens = np.tile(np.geomspace(1e7, 1e12, 40), 8)
    loss = CHINCHILLA.values({"parameters": sizes, "tokens": tokens}, CHINCHILLA.vector(BESIROGLU))
    return Table(sizes, tokens, loss, runs=np.repeat(np.arange(8), 40))


@pytest.fixture(scope="module")
def results(make_runs, tied, isoflop, curves):
    table = make_runs()
    return {
        "chinchilla": fit_chinchilla(table, FEW),
        "tied": fit_chinchilla(tied, FEW),
        "kaplan": fit_kaplan(table, FEW, of="flops"),
        "isoflop": fit_isoflop(isoflop, bootstraps=30),
        "lower": fit_envelope(curves, bootstraps=30),
        "hull": fit_envelope(curves, bootstraps=30, envelope="hull"),
    }


KINDS = ["chinchilla", "tied", "kaplan", "isoflop", "lower", "hull"]


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_short_and_has_the_warnings(results, kind):
    found = results[kind]
    text = str(found)
    assert text == repr(found) == found.summary()
    assert len(text.splitlines()) <= 12 and "array" not in text
    for warning in found.warnings:
        assert warning in text
    assert bool(found.warnings) == (kind in ("tied", "isoflop")), found.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_json(results, kind):
    found = json.loads(json.dumps(results[kind].to_dict(), allow_nan=False))
    assert found["warnings"] == list(results[kind].warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_carry_the_warnings(results, kind, tmp_path):
    figure = results[kind].plot()
    figure.savefig(tmp_path / "a.png")
    words = " ".join(
        text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))
    )
    for warning in results[kind].warnings:
        assert " ".join(warning.split()[:4]) in " ".join(words.split())


def test_text_has_the_numbers(results):
    fit = results["chinchilla"]
    text = str(fit)
    assert "L = E + A / N^alpha + B / D^beta" in text
    low, high = fit.intervals()["alpha"]
    assert f"alpha = {fit.parameters['alpha']:.4g} ({low:.3g} to {high:.3g})" in text
    assert f"C^{fit.frontier.exponent:.3f}" in text and "L* = " in text


def test_what_holds_fits_is_short_too(make_runs, results):
    table = make_runs()
    accuracy = 0.95 - 0.7 / (1 + np.exp(-4 * (table.loss - 2.6)))
    two = fit_two_step(table, table.loss, accuracy, fitting=Fitting(bootstraps=0))
    found = backtest(lambda rows: fit_kaplan(rows, FEW, of="flops"), table)
    for one in (two, found, table, results["hull"].frontier):
        assert len(str(one).splitlines()) <= 15 and "array" not in str(one)


class TestFrontier:
    def test_coefficients_and_loss_are_those_of_the_best_models(self, results):
        fit = results["chinchilla"]
        frontier = chinchilla_frontier(fit)
        best = chinchilla_optimum(fit, [1e19, 1e23])
        np.testing.assert_allclose(
            best.tokens, frontier.tokens_coefficient * best.flops**frontier.tokens_exponent
        )
        np.testing.assert_allclose(
            best.parameters, frontier.coefficient * best.flops**frontier.exponent
        )
        law = fit.law.values({"parameters": best.parameters, "tokens": best.tokens}, fit.vector)
        np.testing.assert_allclose(best.loss, law)
        assert frontier.best_loss is not None
        np.testing.assert_allclose(frontier.best_loss.at(best.flops), law)

    def test_envelopes_know_the_loss(self, results):
        for kind in ("lower", "hull"):
            best = results[kind].frontier.optimum(1e19)
            columns = {"parameters": best.parameters, "tokens": best.tokens}
            true = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
            np.testing.assert_allclose(best.loss, true, rtol=0.01)

    @pytest.mark.parametrize("cost", [TokenFlops(), TokenFlops(40.0, 0.9)])
    def test_approaches_agree_on_the_cost_of_a_token(self, cost):
        """One table: N* and D* of approaches 2 and 3 multiply to its FLOPs, by default."""
        budgets = np.repeat(np.geomspace(1e18, 1e20, 5), 7)
        size = 0.1 * budgets**0.51 * np.tile(np.geomspace(0.5, 2, 7), 5)
        columns = {"parameters": size, "tokens": budgets / cost.of(size)}
        loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
        table = Table(**columns, loss=loss, flops=budgets)
        fit = fit_chinchilla(table, Fitting(bootstraps=0))
        second = fit_isoflop(table, noise=1e-3, bootstraps=0).frontier
        third = chinchilla_frontier(fit)
        assert second.token_flops == third.token_flops
        for best in (second.optimum(1e19), third.optimum(1e19), search_optimum(fit, 1e19)):
            np.testing.assert_allclose(cost.of(best.parameters) * best.tokens, 1e19, rtol=1e-6)
        at = [one.optimum(1e19).tokens[0] for one in (second, third)]
        assert at[0] == pytest.approx(at[1], rel=0.05)

    def test_other_units_change_no_result(self, make_runs):
        table = make_runs()
        billions = Table(table.parameters / 1e9, table.tokens / 1e9, table.loss)
        known, other = (fit_chinchilla(one, Fitting(bootstraps=0)) for one in (table, billions))
        assert other.parameters["alpha"] == pytest.approx(known.parameters["alpha"], rel=1e-5)
        closed = chinchilla_optimum(known, 1e21)
        for best in (chinchilla_optimum(other, 1e3), search_optimum(other, 1e3)):
            np.testing.assert_allclose(1e9 * best.parameters, closed.parameters, rtol=1e-3)
            np.testing.assert_allclose(1e9 * best.tokens, closed.tokens, rtol=1e-3)

    def test_what_search_needs(self, results):
        with pytest.raises(LawError, match="give the value of each"):
            search_optimum(results["chinchilla"], 1e20, width=3.0)
        with pytest.raises(LawError, match="no best models in closed form"):
            _ = results["kaplan"].frontier


class TestHull:
    def test_corners_are_those_of_another_hull(self, curves):
        from scipy.spatial import ConvexHull

        rng = np.random.default_rng(0)
        table = Table(
            curves.parameters, curves.tokens,
            curves.loss * np.exp(0.02 * rng.standard_normal(len(curves))), runs=curves.runs,
        )  # fmt: skip
        fit = fit_envelope(table, bootstraps=0, is_inner=False, envelope="hull")
        x, y = np.log(table.flops), np.log(table.loss)
        # A point far above makes all of the lower side, and nothing else, that of the data.
        corners = ConvexHull(
            np.column_stack([np.append(x, x.max() + 9), np.append(y, y.max() + 9)])
        )
        rows = np.sort(corners.vertices[corners.vertices < len(x)])
        rows = rows[np.argsort(x[rows])]
        falls = np.append(True, y[rows][1:] < np.minimum.accumulate(y[rows])[:-1])
        np.testing.assert_allclose(fit.flops, table.flops[rows[falls]])
        slope = np.polyfit(np.log(fit.flops), np.log(fit.parameters), 1)[0]
        assert fit.frontier.exponent == pytest.approx(slope)

    def test_without_noise_it_has_the_exponent(self):
        sizes = np.repeat(np.geomspace(1e7, 1e10, 24), 120)
        tokens = np.tile(np.geomspace(1e7, 1e12, 120), 24)
        columns = {"parameters": sizes, "tokens": tokens}
        loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
        table = Table(sizes, tokens, loss, runs=np.repeat(np.arange(24), 120))
        fit = fit_envelope(table, bootstraps=50, envelope="hull")
        assert fit.frontier.exponent == pytest.approx(0.5126, abs=0.01)
        low, high = fit.frontier.exponent_interval()
        assert low < 0.5126 < high

    def test_what_it_refuses(self, curves):
        with pytest.raises(LawError, match="envelope='convex' must be one of lower, hull"):
            fit_envelope(curves, envelope="convex")
        with pytest.raises(LawError, match="a hull has corners of its own"):
            fit_envelope(curves, [1e18], envelope="hull")


def test_intervals_do_not_depend_on_the_order_of_rows(make_runs):
    table = make_runs()
    rows = np.random.default_rng(5).permutation(len(table))
    first, other = (fit_chinchilla(one, FEW) for one in (table, table.select(rows)))
    np.testing.assert_allclose(other.draws, first.draws, rtol=1e-3)
