"""Which law a study gets where its runs see data again, and what the page then says."""

import json

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import (
    ALPHA,
    PARAMETER_DECAY,
    SIZES,
    TOKEN_DECAY,
    TOKENS,
    E,
    law,
    repeated_law,
    write_repeats_study,
)

from jaxgen.laws import Fitting
from jaxgen.studies.analyses.law_remarks import remarks
from jaxgen.studies.analyses.laws import analyse_laws
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.figures import write_figures
from jaxgen.studies.held_out_rung import HeldOutRung
from jaxgen.studies.law_selection import select_law
from jaxgen.studies.report import write_report
from jaxgen.studies.study_runs import find_directories, read_runs, table_of

NEW = 1e9
"""Tokens of a pool that no run exhausts."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeats")
    write_repeats_study(folder)
    return folder, analyse(folder)


def chosen(folder, **changes):
    write_repeats_study(folder, **changes)
    return select_law(table_of(read_runs(folder)))


@pytest.mark.slow
def test_what_repeated_data_are_worth_is_found(study):
    found = study[1]["laws"][0]
    named = {one["name"]: one for one in found["parameters"]}
    assert found["formula"] == "L = E + A N'^-alpha + B D'^-beta"
    assert "18 of 27 runs see data again, up to 150 times" in found["why"]
    for name, true in (("E", E), ("alpha", ALPHA), ("token_decay", TOKEN_DECAY)):
        low, high = named[name]["interval"]
        assert low - (high - low) / 2 < true < high + (high - low) / 2
        assert named[name]["standard_error"] > 0
    # Parameters beyond the data are hardly told from the base law: the interval says so.
    low, high = named["parameter_decay"]["interval"]
    assert low < PARAMETER_DECAY < high
    assert found["r_squared"] > 0.99
    for name in ("holdout", "sensitivity"):
        assert json.dumps(found[name], allow_nan=False)


@pytest.mark.slow
def test_lines_are_the_true_laws_of_each_size_and_pool(study):
    found = study[1]["laws"][0]
    pairs = [(one["parameters"], one["unique_tokens"]) for one in found["curves"]]
    assert pairs == [(size, pool) for size in SIZES[:-1:2] for pool in (None, 2e5, 1e6)]
    for size in SIZES[:-1:2]:
        new, *repeated = (one for one in found["curves"] if one["parameters"] == size)
        for one in repeated:
            # It leaves the line of new data where its data have been seen once.
            first = np.interp(one["x"][0], new["x"], new["y"])
            assert one["y"][0] == pytest.approx(first, rel=0.01) or one["x"][0] < new["x"][0]
            assert np.all(np.diff(one["y"]) <= 0) and one["y"][-1] > new["y"][-1]
    for point in found["points"]:
        pool = NEW if point["unique_tokens"] == point["tokens"] else point["unique_tokens"]
        true = repeated_law(point["parameters"], point["tokens"], pool)
        assert point["fitted"] == pytest.approx(true, rel=0.01)


@pytest.mark.slow
def test_the_page_and_the_figures_show_it(study, tmp_path):
    folder, analysis = study
    page = write_report(find_directories(folder), folder / "report.html", "T", "L", analysis)
    assert "unique tokens, repeated" in page.read_text()
    assert_paints(page.read_text(), sections_of(analysis), tmp_path)
    names = {path.name for path in write_figures(sections_of(analysis), tmp_path)}
    assert {name for name in names if name.endswith("pdf")} == {"law-mean.pdf", "training.pdf"}


@pytest.mark.slow
def test_a_rung_is_predicted_by_the_data_that_it_will_see_again(study):
    folder, _ = study
    table = table_of(read_runs(folder))
    fit = select_law(table).fit(table, Fitting(bootstraps=0))
    size, tokens, pool = SIZES[-1], 3e7, 1e6
    counts = {"active": int(size), "total": int(size), "without_embedding": int(size)}
    for unique in (None, pool):
        rung = HeldOutRung("big", "quickstart", counts, int(tokens), 1, (0,), unique)
        predicted = fit.predict(rung.columns).values[0]
        assert predicted == pytest.approx(repeated_law(size, tokens, unique or NEW), rel=0.02)


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({"pools": (1e6, 2e5)}, "chinchilla"),  # No run on new data alone.
        ({"pools": (NEW, 2e7)}, "chinchilla"),  # One level of repetition.
        ({"sizes": SIZES[:2]}, "floor"),
        ({"tokens": TOKENS[:1], "sizes": SIZES, "pools": (NEW, 1e6, 5e5, 2e5)}, "floor"),
    ],
)
def test_a_simpler_law_says_that_it_does_not_know_of_repeats(changes, form, tmp_path):
    choice = chosen(tmp_path, **changes)
    assert choice.form == form
    assert "see data again" in choice.why and "counts all tokens as new" in choice.why


@pytest.mark.slow
def test_repeats_that_cost_nothing_are_said_to(tmp_path):
    write_repeats_study(tmp_path, of=lambda size, tokens, pool: law(size, tokens))
    found = analyse_laws(read_runs(tmp_path))[0]
    assert "token_decay is effectively infinite: up to 150 epochs" in found["why"]
    named = {one["name"]: one["value"] for one in found["parameters"]}
    assert named["E"] == pytest.approx(E, abs=0.02)
    assert named["alpha"] == pytest.approx(ALPHA, abs=0.02)


@pytest.mark.slow
def test_repeats_that_do_harm_are_said_to(tmp_path):
    """The largest model is worse after the most rounds than after fewer."""

    def loss(size, tokens, pool):
        harm = 0.5 if size == max(SIZES[:-1:2]) and tokens / pool > 100 else 0.0
        return repeated_law(size, tokens, pool) + harm

    write_repeats_study(tmp_path, of=loss)
    why = analyse_laws(read_runs(tmp_path))[0]["why"]
    assert "In 1 of the runs, more epochs over the same data increased the loss" in why
    assert "after 150 with 2,000,000 parameters" in why


def rising(size, tokens, pool):
    """Losses that rise with epochs, the more the larger the model."""
    repeats = max(tokens / pool - 1, 0.0)
    return law(size, tokens) + 0.01 * repeats**0.7 * (size / min(pool, tokens)) ** 0.5


def test_runs_that_repeats_made_worse_get_a_law_that_can_rise(tmp_path):
    write_repeats_study(tmp_path, of=rising)
    choice = select_law(table_of(read_runs(tmp_path)))
    assert choice.form == "over-fitting" and "worse than a shorter run" in choice.why


@pytest.mark.slow
def test_the_law_that_can_rise_is_found_and_predicts(tmp_path):
    write_repeats_study(tmp_path, of=rising)
    table = table_of(read_runs(tmp_path))
    choice = select_law(table)
    fit = choice.fit(table, Fitting(bootstraps=0))
    assert fit.parameters["kappa"] == pytest.approx(0.7, abs=0.1)
    assert fit.parameters["lambda"] == pytest.approx(0.5, abs=0.1)
    # A larger model on the smallest pool.
    worst = {"parameters": 6e6, "tokens": 3e7, "unique_tokens": 2e5}
    predicted = fit.predict(worst).values[0]
    assert predicted == pytest.approx(rising(6e6, 3e7, 2e5), rel=0.05)
    assert not any("never rises" in text for text in remarks(fit, table))


def test_new_data_are_not_spoken_of(tmp_path):
    choice = chosen(tmp_path, pools=(NEW,))
    assert choice.form == "chinchilla" and "again" not in choice.why
