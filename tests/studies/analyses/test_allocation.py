"""N*(C) and D*(C) of studies whose law, and so whose best sizes, are known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from support.browser import assert_paints
from support.synthetic_study import (
    config_text,
    law,
    write_ability_study,
    write_isoflop_study,
    write_run,
)

from jaxgen.emergence import Design, simulate
from jaxgen.studies.analyses.allocation import ALLOCATION, analyse_allocations
from jaxgen.studies.analyses.approaches import compare_approaches
from jaxgen.studies.analyses.runs import describe_run
from jaxgen.studies.analysis import plain
from jaxgen.studies.figures import write_figures
from jaxgen.studies.plots import Figure, Plot, Sentence
from jaxgen.studies.report import page_of
from jaxgen.studies.study_runs import read_runs

BUDGETS = np.geomspace(1e12, 1e14, 5)


def small(size):
    """FLOPs of a token of models whose attention and logits weigh more the smaller they are."""
    return 40.0 * size**0.85


def analyse(folder):
    return plain(analyse_allocations(read_runs(folder)))


def six_n(size):
    return 6.0 * size


def best_size(flops, token_flops):
    """By golden section on the law itself."""

    def at(log_size):
        return law(np.exp(log_size), flops / token_flops(np.exp(log_size)))

    return np.exp(minimize_scalar(at, bounds=(np.log(1e3), np.log(1e9)), method="bounded").x)  # pyright: ignore


def about_best(token_flops):
    return lambda flops: best_size(flops, token_flops) * np.geomspace(0.4, 2.5, 6)


@pytest.fixture(scope="module", params=[six_n, small], ids=["6N", "exact"])
def study(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("isoflop")
    write_isoflop_study(folder, BUDGETS, about_best(request.param), request.param)
    return request.param, folder, *analyse(folder)


def test_both_approaches_cover_the_true_exponents(study):
    token_flops, _, found = study
    true = [best_size(flops, token_flops) for flops in BUDGETS]
    exponent = np.polyfit(np.log(BUDGETS), np.log(true), 1)[0]
    tokens = BUDGETS / [token_flops(size) for size in true]
    tokens_exponent = np.polyfit(np.log(BUDGETS), np.log(tokens), 1)[0]
    by_name = {one["name"]: one for one in found["approaches"]}
    assert len(by_name) == 4
    for one in by_name.values():
        low, high = one["exponent_interval"]
        assert low < exponent < high
        low, high = one["tokens_exponent_interval"]
        assert low < tokens_exponent < high
    assert found["agreement"]["is_agreed"]
    assert found["token_flops"]["worst"] < 0.01


def test_the_best_models_are_the_laws_own(study):
    token_flops, _, found = study
    for name, tolerance in (("minima of budgets, quadratic", 0.15), ("Chinchilla's law", 0.15)):
        one = next(one for one in found["approaches"] if one["name"] == name)
        assert [best["is_beyond_runs"] for best in one["optima"]] == [False] * 3 + [True] * 2
        assert one["optima"][-1]["flops"] == pytest.approx(1e15, rel=0.01)
        for best in one["optima"]:
            size = best_size(best["flops"], token_flops)
            assert best["parameters"] == pytest.approx(size, rel=tolerance)
            tokens = best["flops"] / token_flops(size)
            assert best["tokens"] == pytest.approx(tokens, rel=tolerance)
            low, high = best["ratio_interval"]
            assert low < best["ratio"] < high and low < tokens / size < high
    reached = next(o for o in found["approaches"] if o["approach"] == 3)["optima"][1]
    size = best_size(reached["flops"], token_flops)
    assert reached["loss"] == pytest.approx(
        law(size, reached["flops"] / token_flops(size)), rel=0.005
    )


def test_a_budget_has_its_runs_and_its_minimum(study, tmp_path):
    token_flops, folder, found = study
    assert [one["flops"] for one in found["budgets"]] == pytest.approx(BUDGETS, rel=0.01)
    for one in found["budgets"]:
        assert len(one["points"]) == 6 and one["dropped"] == ""
        assert one["parameters"] == pytest.approx(best_size(one["flops"], token_flops), rel=0.3)
        assert min(one["curve"]["y"]) == pytest.approx(one["loss"], rel=1e-3)
        at = one["curve"]["x"][int(np.argmin(one["curve"]["y"]))]
        assert at == pytest.approx(one["parameters"], rel=0.06)
    runs = [describe_run(run) for run in read_runs(folder)]
    section = ALLOCATION.section({"runs": runs, "allocations": [found]})
    assert section is not None
    files = write_figures([section], tmp_path / "figures")
    assert_paints(page_of("T", "L", [section], {}), [section], tmp_path)
    assert [path.name for path in files] == ["allocation.pdf", "allocation.png"]


def test_a_page_shows_how_runs_were_grouped_and_every_warning(study):
    _, folder, found = study
    second = next(one for one in found["approaches"] if one["approach"] == 2)
    assert second["grouping"].startswith("5 budgets") and second["weights"] == "equal"
    warned = second | {"warnings": ["The minima scatter."]}
    tree = {
        "runs": [describe_run(run) for run in read_runs(folder)],
        "allocations": [found | {"approaches": [warned]}],
    }
    section = ALLOCATION.section(tree)
    assert section is not None
    told = [one for one in section.blocks if isinstance(one, Sentence)]
    assert [one.text for one in told if one.tone == "bad"] == ["Approach 2: The minima scatter."]
    (figure,) = [one for one in section.blocks if isinstance(one, Figure)]
    plot = figure.panels[-1]
    assert isinstance(plot, Plot) and plot.title == "The report lists 1 warning about this law"
    assert "All budgets weigh the same." in told[0].text and "5 budgets" in told[0].text


def test_a_budget_without_a_minimum_says_why(tmp_path):
    def sizes(flops):
        shift = 20.0 if flops == BUDGETS[0] else 1.0
        return shift * best_size(flops, six_n) * np.geomspace(0.4, 2.5, 6)

    write_isoflop_study(tmp_path, BUDGETS, sizes, six_n)
    (found,) = analyse(tmp_path)
    dropped = [one["dropped"] for one in found["budgets"]]
    assert dropped == ["the minimum is at the edge of the sizes", "", "", "", ""]
    assert found["budgets"][0]["parameters"] is None


def test_crossed_sizes_and_tokens_have_the_third_approach_alone(tmp_path):
    config = config_text()
    for size in np.geomspace(1e5, 1e7, 4):
        for tokens in (1e7, 1e8, 1e9):
            write_run(
                tmp_path,
                f"n{size:.0f}-d{tokens:.0e}",
                0,
                size,
                tokens,
                law(size, tokens),
                {},
                config,
            )
    (found,) = analyse(tmp_path)
    assert found["budgets"] == [] and found["agreement"] is None
    (one,) = found["approaches"]
    assert one["approach"] == 3
    true = best_size(one["optima"][0]["flops"], six_n)
    assert one["optima"][0]["parameters"] == pytest.approx(true, rel=0.02)


def test_a_ladder_at_fixed_tokens_says_what_it_lacks(tmp_path):
    table = simulate(Design(scales=5, seeds=4, instances=20), "mirage", seed=1)
    write_ability_study(tmp_path, {"mirage": table})
    (found,) = analyse(tmp_path)
    assert "takes two compute budgets" in found["why_not"]


def approach(exponent, size):
    """As the tree has it, with intervals of a twentieth to each side."""
    best = {
        "flops": 1e12,
        "is_beyond_runs": False,
        "parameters": size,
        "parameters_interval": [0.95 * size, 1.05 * size],
    }
    later = best | {"flops": 1e13, "is_beyond_runs": True, "parameters_interval": [1e9, 2e9]}
    return plain(
        {
            "exponent": exponent,
            "exponent_interval": [exponent - 0.05, exponent + 0.05],
            "optima": [best, later],
        }
    )


@pytest.mark.parametrize(
    ("other", "parts"),
    [
        (approach(0.55, 1.08e6), None),
        (approach(0.7, 1.08e6), ["C^0.500 (0.450 to 0.550)", "C^0.700"]),
        (
            approach(0.5, 1.25e6),
            ["at 1e+12 FLOPs N* is 1e+06", "1.25e+06 (1.19e+06 to 1.31e+06) by Chinchilla's"],
        ),
    ],
)
def test_disagreement_is_beyond_both_intervals(other, parts):
    found = compare_approaches(approach(0.5, 1e6), other, 0.95)
    assert found["is_agreed"] == (parts is None)
    for part in parts or ["agree within"]:
        assert part in found["sentence"]
