"""Tables: what they accept, and that each bad input is one clear error."""

from typing import Any

import numpy as np
import pytest

from jaxgen import laws
from jaxgen.laws import (
    MUENNIGHOFF,
    Fitting,
    HuberLoss,
    LawError,
    fit_chinchilla,
    fit_data_constrained,
    fit_kaplan,
)

# Columns may be any sequence, which a type checker does not know.
Table: Any = laws.Table
GOOD = {"parameters": [1e8, 2e8, 4e8], "tokens": [1e9, 1e9, 2e9], "loss": [3.5, 3.3, 3.1]}


def test_flops_are_six_times_the_product_unless_given():
    table = Table(**GOOD)
    np.testing.assert_allclose(table.flops, [6e17, 1.2e18, 4.8e18])
    assert Table(**GOOD, flops=[1, 2, 3]).flops.tolist() == [1, 2, 3]


def test_columns_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Table(**GOOD).loss[0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": [3.5, np.nan, 3.1]}, r"loss\[1\]=nan must be finite"),
        ({"loss": [3.5, 0, 3.1]}, r"loss\[1\]=0.0 must be positive"),
        ({"tokens": [1e9, -1, 1e9]}, r"tokens\[1\]=-1.0"),
        ({"parameters": [1e8, np.inf, 1e8]}, r"parameters\[1\]=inf"),
        ({"loss": [3.5, 3.3]}, r"loss has shape \(2,\), the table 3 rows"),
        ({"loss": [[3.5, 3.3, 3.1]]}, r"one number a row"),
        ({"loss": ["a", "b", "c"]}, "must be numbers"),
        ({"flops": [1e18, 0, 1e18]}, r"flops\[1\]=0.0"),
        ({"extra": {"width": [1, 2]}}, "width has shape"),
        ({"extra": {"width": [1, 2, np.nan]}}, r"width\[2\]=nan"),
        ({"extra": {"loss": [1, 2, 3]}}, "has the name of a field"),
        ({"seeds": [1, 2]}, "seeds has shape"),
        ({"parameters": [1e8] * 3, "tokens": [1e9] * 3, "loss": [3, 3.1, 3]}, "rows 0 and 2"),
        (
            {"parameters": [1e8] * 3, "tokens": [1e9] * 3, "seeds": [1, 1, 2]},
            "rows 0 and 1 are one run twice",
        ),
        ({"parameters": [1e8] * 3, "tokens": [1e9] * 3, "runs": ["a", "b", "a"]}, "rows 0 and 2"),
    ],
)
def test_bad_tables(change, message):
    with pytest.raises(LawError, match=message):
        Table(**GOOD | change)


def test_seeds_tell_equal_runs_apart():
    table = Table([1e8] * 2, [1e9] * 2, [3.0, 3.0], seeds=[1, 2])
    assert table.groups("seed").tolist() == [0, 1]


def test_groups_by_run_and_column():
    table = Table(**GOOD, runs=["a", "b", "a"], extra={"width": [1, 1, 2]})
    assert table.groups().tolist() == [0, 1, 0]
    assert table.groups("width").tolist() == [0, 0, 1]
    with pytest.raises(LawError, match=r"needs Table\.seeds"):
        table.groups("seed")


def test_fits_name_what_they_lack():
    table = Table(**GOOD)
    with pytest.raises(LawError, match="Chinchilla has 5 free parameters and the table 3 points"):
        fit_chinchilla(table)
    with pytest.raises(LawError, match="column 'unique_tokens' is missing"):
        fit_data_constrained(table, base=MUENNIGHOFF)
    with pytest.raises(LawError, match="lacks 'E'"):
        fit_data_constrained(table, base={"A": 1, "B": 1, "alpha": 1, "beta": 1})
    with pytest.raises(LawError, match="of='width' must be one of"):
        fit_kaplan(table, of="width")
    with pytest.raises(LawError, match="too few to bootstrap"):
        fit_kaplan(table.select([0, 1]))


def test_settings_are_checked():
    with pytest.raises(LawError, match="delta=0 must be positive"):
        HuberLoss(delta=0)
    with pytest.raises(LawError, match="space='cubic'"):
        HuberLoss(space="cubic")
    with pytest.raises(LawError, match="bootstraps=-1"):
        Fitting(bootstraps=-1)


def test_tables_without_rows_fit_nothing():
    empty = Table([], [], [], runs=np.array([], str))
    for fit in (fit_chinchilla, fit_kaplan, laws.fit_isoflop, laws.fit_envelope):
        with pytest.raises(LawError, match=r"the table 0 points|has no rows"):
            fit(empty)
    with pytest.raises(LawError, match="has no rows"):
        laws.fit_task_accuracy([], [])
    with pytest.raises(LawError, match="has no rows"):
        laws.backtest(fit_chinchilla, empty)


ROOM: Any = laws
"""The functions, with arguments that a type checker would refuse."""
WORDS = ["1", "many", "3"]


@pytest.mark.parametrize(
    "give",
    [
        lambda: ROOM.fit_isoflop(Table(**GOOD), budgets=WORDS),
        lambda: ROOM.fit_envelope(Table(**GOOD, runs=["a", "b", "c"]), flops=WORDS),
        lambda: ROOM.fit_task_accuracy(WORDS, [0.1, 0.2, 0.3]),
        lambda: ROOM.fit_drifting(WORDS, [0.1, 0.2, 0.3]),
        lambda: ROOM.fit_law(ROOM.CHINCHILLA, Table(**GOOD).columns, WORDS),
        lambda: ROOM.fit_kaplan(Table(**GOOD), starts=WORDS),
    ],
)
def test_words_among_numbers_are_named(give):
    with pytest.raises(LawError, match=r"\[1\]=many must be numbers"):
        give()


@pytest.mark.parametrize("bootstraps", [-1, 1, 19, 2.5, True, float("nan"), "20"])
def test_resamples_are_enough_for_an_interval_or_none(bootstraps):
    """Those of one resample had a width of zero, and left the estimate itself out."""
    many = {name: np.tile(values, 4) * np.geomspace(1, 2, 12) for name, values in GOOD.items()}
    for give in (
        lambda: ROOM.Fitting(bootstraps=bootstraps),
        lambda: ROOM.fit_isoflop(Table(**many), bootstraps=bootstraps),
        lambda: ROOM.fit_envelope(Table(**many, runs=["a"] * 12), bootstraps=bootstraps),
    ):
        with pytest.raises(LawError, match=r"bootstraps=.* must be 0, .* 20 or more"):
            give()


@pytest.mark.parametrize("bootstraps", [-1, 1, 19, 2.5, 10**7, 10**20])
def test_resamples_are_none_or_enough_and_no_more_than_fit_memory(bootstraps):
    with pytest.raises(LawError, match=f"bootstraps={bootstraps} must be"):
        Fitting(bootstraps=bootstraps)


def test_a_floor_that_is_none_is_told_as_none():
    rng = np.random.default_rng(0)
    sizes, tokens = 10 ** rng.uniform(6, 9, 40), 10 ** rng.uniform(8, 11, 40)
    table = Table(parameters=sizes, tokens=tokens, loss=30 * sizes**-0.07 + 60 * tokens**-0.1)
    text = str(fit_chinchilla(table, Fitting(bootstraps=0)))
    assert "E = 0 (no floor found)" in text and "A = 30" in text


def test_a_law_that_cannot_rise_says_so_where_losses_do():
    sizes, pools, epochs = np.meshgrid([1e7, 1e8], [1e8, 1e9], [1, 4, 16, 64])
    sizes, pools, epochs = (one.ravel() for one in (sizes, pools, epochs))
    for harm, told in ((3e-3, True), (0.0, False)):
        loss = 1.7 + 406 / sizes**0.34 + 410 / (pools * epochs**0.5) ** 0.28 + harm * epochs**1.5
        table = Table(parameters=sizes, tokens=pools * epochs, loss=loss,
                      extra={"unique_tokens": pools})  # fmt: skip
        fit = fit_data_constrained(table, Fitting(bootstraps=0), base=MUENNIGHOFF)
        assert ("this law cannot rise" in " ".join(fit.warnings)) == told
