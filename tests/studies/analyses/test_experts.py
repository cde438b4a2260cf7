"""Mixtures of experts whose worth in dense compute is known."""

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import E, config_text, law, write_experts_study, write_run

from jaxgen.studies.analyses.experts import EXPERTS, analyse_experts
from jaxgen.studies.analyses.runs import describe_run
from jaxgen.studies.analysis import plain
from jaxgen.studies.figures import write_figures
from jaxgen.studies.report import page_of
from jaxgen.studies.study_runs import read_runs

SIZES = np.geomspace(3e4, 3e7, 6)
GAINS = {1e5: 3.0, 1e6: 3.0, 6e6: 0.5}


def analyse(folder):
    return plain(analyse_experts(read_runs(folder)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    write_experts_study(folder, SIZES, GAINS)
    return folder, *analyse(folder)


def test_the_multiplier_is_the_true_one(study):
    _, found = study
    assert found["formula"] == "L = E + A C^-alpha" and found["tokens"] == 1e7
    assert [rung["seeds"] for rung in found["rungs"]] == [3, 3, 3]
    for rung, (size, gain) in zip(found["rungs"], GAINS.items(), strict=True):
        assert rung["parameters"]["active"] == size
        low, high = rung["multiplier"]["interval"]
        assert low < gain < high
        assert high / low < 3
        assert rung["multiplier"]["value"] == pytest.approx(gain, rel=0.2)
        assert rung["multiplier"]["flops"] == pytest.approx(gain * 6 * size * 1e7, rel=0.2)
        # The sparse rung's own FLOPs are those of a dense model of its active parameters.
        assert rung["dense"]["value"] == pytest.approx(law(size, 1e7), rel=0.004)
        assert rung["difference"]["value"] == pytest.approx(
            law(gain * size, 1e7) - law(size, 1e7), abs=0.02
        )
        low, high = rung["difference"]["interval"]
        assert low < law(gain * size, 1e7) - law(size, 1e7) < high


def test_every_figure_carries_its_runs(study, tmp_path):
    folder, found = study
    runs = {run.name: run.loss() for run in read_runs(folder)}
    dense = {point["run"]: point["loss"] for point in found["points"]}
    sparse = {one["run"]: one["loss"] for rung in found["rungs"] for one in rung["by_run"]}
    assert dense | sparse == runs
    described = [describe_run(run) for run in read_runs(folder)]
    section = EXPERTS.section({"runs": described, "comparisons": [found]})
    assert section is not None
    files = write_figures([section], tmp_path / "figures")
    assert_paints(page_of("T", "L", [section], {}), [section], tmp_path)
    assert [path.name for path in files] == ["comparison.pdf", "comparison.png"]


def test_a_loss_below_the_floor_or_far_off_has_no_multiplier(tmp_path):
    write_experts_study(tmp_path, SIZES, {1e6: 3.0})
    config = config_text()
    for rung, loss in (("below", 1.05 * E), ("far", law(1e10, 1e7)), ("worse", law(5e2, 1e7))):
        write_run(tmp_path, rung, 0, 1e6, 1e7, loss, {}, config, total=8_000_000)
    (found,) = analyse(tmp_path)
    reasons = {rung["rung"]: rung["multiplier"].get("why_not", "") for rung in found["rungs"]}
    assert "below the floor of the dense law" in reasons["below"]
    assert "not used beyond 10 times" in reasons["far"]
    assert "not used below 0.1" in reasons["worse"]
    assert reasons["moe1.00e+06"] == ""
    for rung in found["rungs"]:
        assert rung["difference"]["value"] == pytest.approx(rung["loss"] - rung["dense"]["value"])


def test_only_dense_runs_of_the_same_tokens_are_compared(tmp_path):
    config = config_text()
    for size in SIZES:
        for tokens in (2e6, 1e7, 5e7):
            write_run(
                tmp_path,
                f"dense{size:.0f}-{tokens:.0e}",
                0,
                size,
                tokens,
                law(size, tokens),
                {},
                config,
            )
    for tokens in (1e7, 3e7):
        loss = law(3e6, tokens)
        write_run(tmp_path, f"moe-{tokens:.0e}", 0, 1e6, tokens, loss, {}, config, total=4_000_000)
    same, other = analyse(tmp_path)
    assert same["tokens"] == 1e7 and len(same["points"]) == len(SIZES)
    assert same["rungs"][0]["multiplier"]["value"] == pytest.approx(3, rel=0.05)
    assert other["tokens"] == 3e7 and "no dense run" in other["why_not"]


def test_a_study_of_one_kind_has_nothing_to_compare(tmp_path):
    write_experts_study(tmp_path, SIZES, {})
    assert analyse(tmp_path) == []


def test_too_few_dense_sizes_are_said_to_be(tmp_path):
    write_experts_study(tmp_path, SIZES[:2], {1e5: 3.0})
    (found,) = analyse(tmp_path)
    assert found["why_not"].startswith("moe1.00e+05 beside dense models: too few for a law")


def test_differences_within_seeds_are_tighter_than_between_them(tmp_path):
    """Seeds that share a shift of 3 %, dense or sparse: it is no noise of their comparison."""
    random, config = np.random.default_rng(0), config_text()
    shift = {seed: float(np.exp(0.03 * random.standard_normal())) for seed in range(4)}
    others = {seed: shift[seed - 1] for seed in range(1, 5)}
    for name, seeds in (("same", shift), ("others", others)):
        for size in (*SIZES, "moe"):
            is_sparse = size == "moe"
            gain, active = (2.0, 1e6) if is_sparse else (1.0, size)
            for seed, factor in (seeds if is_sparse else shift).items():
                loss = law(gain * active, 1e7) * factor * np.exp(random.normal(0, 0.001))
                total = int(4 * active) if is_sparse else None
                rung = f"{size}" if is_sparse else f"dense{size:.2e}"
                write_run(tmp_path / name, rung, seed, active, 1e7, loss, {}, config, total)
    widths = {}
    for name in ("same", "others"):
        ((rung,),) = (found["rungs"] for found in analyse(tmp_path / name))
        low, high = rung["multiplier"]["interval"]
        assert low < 2.0 < high
        widths[name] = np.log(high / low)
    assert widths["same"] < 0.5 * widths["others"]
