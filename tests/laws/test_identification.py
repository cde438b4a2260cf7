"""Tables that cannot tell a law's parameters: refused, or warned of wherever the fit is shown."""

import warnings
from functools import partial

import numpy as np
import pytest

from jaxgen.laws import (
    BESIROGLU,
    CHINCHILLA,
    GRANULARITY,
    Fitting,
    LawError,
    Table,
    by_complex_step,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_chinchilla,
    fit_data_constrained,
    fit_isoflop,
    fit_kaplan,
    fit_law,
    fit_table,
    fit_task_accuracy,
    restrict,
    search_optimum,
)
from jaxgen.laws.law import Law

POINT = Fitting(bootstraps=0)
SIZES = np.geomspace(1e7, 1e10, 20)
ONE = np.full(20, 1e8)


def runs(parameters, tokens, noise=0.003, seed=0, change=None, **more):
    parameters, tokens = np.asarray(parameters, float), np.asarray(tokens, float)
    columns = {"parameters": parameters, "tokens": tokens}
    loss = CHINCHILLA.values(columns, CHINCHILLA.vector(BESIROGLU))
    loss = loss if change is None else change(loss)
    loss = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    return Table(parameters, tokens, loss, **more)


def grid(**options):
    sizes = np.repeat(np.geomspace(5e7, 5e9, 7), 6)
    return runs(sizes, sizes * np.tile(np.geomspace(2, 200, 6), 7), **options)


def test_sound_tables_are_not_warned_of():
    assert fit_chinchilla(grid(), POINT).warnings == ()
    crossed = runs(np.tile(SIZES, 2), np.concatenate([20 * SIZES, 80 * SIZES]))
    assert fit_chinchilla(crossed, POINT).warnings == ()


def test_noise_alone_is_told_and_overflows_nowhere():
    sizes, tokens = np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6))
    sizes, tokens = sizes.T.ravel(), tokens.T.ravel()
    # Draws with which a start of the search runs away.
    noise = np.random.default_rng(0).standard_normal(96)[60:]
    loss = (1.69 + 406.4 / sizes**0.34 + 410.7 / tokens**0.28) * np.exp(1.5 * noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_chinchilla(Table(sizes, tokens, loss), POINT)
    assert any("explains 0 %" in one for one in fit.warnings)


def test_a_published_table_is_not_warned_of(epoch240):
    assert fit_chinchilla(epoch240, POINT).warnings == ()


@pytest.mark.parametrize(
    ("parameters", "tokens", "what"),
    [
        (ONE, 20 * SIZES, r"A.* and alpha apart: parameters is 1e\+08 in all"),
        (np.tile([1e8, 1e9], 10), 20 * SIZES, r"alpha apart: parameters is 1e\+08 or 1e\+09"),
        (SIZES, 100 * ONE, "beta apart: tokens is 1e"),
        (SIZES, np.tile([1e9, 1e10], 10), "beta apart: tokens is 1e"),
    ],
)
def test_too_few_sizes_or_tokens_are_refused(parameters, tokens, what):
    with pytest.raises(LawError, match=what):
        fit_chinchilla(runs(parameters, tokens), POINT)
    # With the term of the other axis fixed, nothing is asked of the data that they lack.
    axis = "alpha" if len(np.unique(parameters)) < 3 else "beta"
    known = {f"log_{'A' if axis == 'alpha' else 'B'}": 6.0, axis: 0.35}
    fit_table(restrict(CHINCHILLA, fixed=known), runs(parameters, tokens), POINT)


@pytest.mark.parametrize(
    ("fit", "table"),
    [
        (partial(fit_kaplan, of="parameters"), runs(ONE, 20 * SIZES)),
        (partial(fit_kaplan, of="tokens"), runs(SIZES, ONE)),
        (partial(fit_table, GRANULARITY), grid(extra={"granularity": np.full(42, 8.0)})),
    ],
)
def test_a_column_of_one_value_is_refused_by_every_law(fit, table):
    with pytest.raises(LawError, match=r"cannot tell .* apart"):
        fit(table, fitting=POINT)


@pytest.mark.parametrize(("noise", "power"), [(0.0, 1.0), (0.003, 0.8)])
def test_tokens_tied_to_sizes_are_warned_of_everywhere(noise, power):
    fit = fit_chinchilla(runs(SIZES, 20 * SIZES**power, noise), POINT)
    told = " ".join(fit.warnings)
    assert "Tokens are tied to parameters" in told and "accuracy" not in told
    assert "Tokens are tied" in str(fit) and fit.to_dict()["warnings"] == list(fit.warnings)
    try:
        frontier = chinchilla_frontier(fit)
    except LawError as error:
        assert "no size is the best" in str(error)
    else:
        assert frontier.warnings == fit.warnings and "tied" in str(frontier)


def test_an_accuracy_in_place_of_a_loss_is_warned_of():
    table = grid(change=lambda loss: 1 - 0.1 * loss)
    fit = fit_chinchilla(table, POINT)
    assert sum("or an accuracy?" in text for text in fit.warnings) == 2
    with pytest.raises(LawError, match="no size is the best of a budget"):
        chinchilla_optimum(fit, 1e21)
    for of in ("flops", "both"):
        assert "accuracy" in " ".join(fit_kaplan(table, POINT, of=of).warnings)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_noise_that_drowns_the_trend_is_warned_of(noise):
    told = " ".join(fit_chinchilla(grid(noise=noise), POINT).warnings)
    assert "Not determined" in told or "moves no fitted value" in told


def test_a_loss_without_a_trend_is_warned_of():
    told = fit_chinchilla(grid(change=lambda loss: 0 * loss + 2.5), POINT).warnings
    assert "explains" in " ".join(told)


@pytest.mark.parametrize("jitter", [0.0, 1e-13])
def test_a_constant_loss_is_refused(jitter):
    table = grid(noise=jitter, change=lambda loss: 0 * loss + 2.5)
    for fit in (fit_chinchilla, fit_kaplan, fit_isoflop):
        with pytest.raises(LawError, match=r"is 2\.5 in all 42 rows"):
            fit(table)


def test_points_as_many_as_parameters_are_warned_of():
    table = grid().select([0, 5, 14, 21, 40])
    fit = fit_chinchilla(table, POINT)
    assert np.isnan(fit.r_squared) and np.isnan(fit.noise)
    assert "nothing is left to judge" in " ".join(fit.warnings)
    assert fit.to_dict()["r_squared"] is None


def test_repeats_that_no_run_makes_are_told():
    table = grid()
    table = Table(table.parameters, table.tokens, table.loss, extra={"unique_tokens": table.tokens})
    fit = fit_data_constrained(table, POINT, base=BESIROGLU)
    assert "token_decay" in " ".join(fit.warnings)


def nine(named, columns):
    """Farseer's law (2506.10972): the exponent of tokens depends on the size."""
    size, tokens = np.log(columns["parameters"] / 1e9), np.log(columns["tokens"])
    exponent, of_tokens, of_size = (
        named[f"a{i}"] * np.exp(named[power] * size) + named[f"b{i}"]
        for i, power in ((1, "alpha"), (2, "beta"), (3, "gamma"))
    )
    of_tokens = of_tokens - np.exp(exponent) * tokens
    largest = np.maximum(of_size.real, of_tokens.real)
    return largest + np.log(np.exp(of_size - largest) + np.exp(of_tokens - largest))


NINE = ("a1", "b1", "alpha", "a2", "b2", "beta", "a3", "b3", "gamma")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_on_whose_end_few_starts_agree_goes_on_and_says_so(seed):
    table = grid(noise=0.002, seed=seed)
    bind = by_complex_step(nine, NINE, ("parameters", "tokens"))
    powers = np.stack(np.meshgrid(*[[-0.2, 0.1, 0.3]] * 3, indexing="ij"), -1).reshape(-1, 3)
    starts = np.tile([0.0, -1.0, 0.1, 0.0, 7.6, 0.1, -0.1, 0.7, 0.1], (27, 1))
    starts[:, [2, 5, 8]] = powers
    law = Law("Farseer", NINE, ("parameters", "tokens"), bind, lambda *_: starts)
    fit = fit_law(law, table.columns, table.loss, POINT)
    # Chinchilla's law is a case of it, so its optimum is no better than this one's.
    assert fit.value <= fit_chinchilla(table, POINT).value * 1.001
    assert (fit.search.reached > 1) != ("starts reached the best" in " ".join(fit.warnings))
    again = fit_law(law, table.columns, table.loss, POINT, starts=fit.vector[None])
    assert again.value >= fit.value * (1 - 1e-5)


class TestInputs:
    def test_lengths_that_differ(self):
        x = np.arange(1.0, 6)
        for columns, target in (
            ({"parameters": x, "tokens": x[:4]}, x),
            ({"parameters": x, "tokens": x}, x[:4]),
            ({"parameters": x, "tokens": x}, np.array(2.0)),
        ):
            with pytest.raises(LawError, match="one number a point"):
                fit_law(CHINCHILLA, columns, target, POINT)
        with pytest.raises(LawError, match=r"groups has shape \(2,\)"):
            fit_law(
                CHINCHILLA, {"parameters": x, "tokens": x}, 1 + x, POINT, groups=np.array([0, 1])
            )
        with pytest.raises(LawError, match="starts has shape"):
            fit_chinchilla(grid(), POINT, np.zeros((3, 4)))
        with pytest.raises(LawError, match=r"tokens has shape \(4,\), the table 5 rows"):
            Table(x, x[:4], x)  # pyright: ignore[reportArgumentType]
        with pytest.raises(LawError, match="one name for each point"):
            fit_task_accuracy(x, x / 9, runs=["a"])
        with pytest.raises(LawError, match="a mask must be"):
            grid().select(np.array([True, False]))
        with pytest.raises(LawError, match="beyond the table"):
            grid().select([99])

    @pytest.mark.parametrize("values", [[3, "x", 2], np.array(["3", "x", "2"]), [3, None, 2]])
    def test_what_is_no_number_is_named(self, values):
        with pytest.raises(LawError) as error:
            Table([1, 2, 3], [1, 2, 3], values)  # pyright: ignore[reportArgumentType]
        assert str(error.value).startswith("loss[1]=") and "np." not in str(error.value)

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1e9])
    def test_predictions_refuse_what_is_no_scale(self, wrong):
        fit = fit_chinchilla(grid(), POINT)
        with pytest.raises(LawError, match=r"parameters\[1\]="):
            fit.predict(parameters=[1e9, wrong], tokens=1e10)
        for optimum in (chinchilla_optimum, search_optimum):
            with pytest.raises(LawError, match=r"flops\[0\]="):
                optimum(fit, wrong)

    def test_what_is_no_fitting_is_named(self):
        with pytest.raises(LawError, match="fitting='both' must be a Fitting"):
            fit_kaplan(grid(), "both")  # pyright: ignore[reportArgumentType]
