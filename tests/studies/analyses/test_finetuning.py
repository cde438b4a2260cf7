"""Abilities foretold by fine-tuning: a known law is found again, and what it foretells."""

import json

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import write_finetuned_study

from jaxgen.emergence import EmergenceError, fit_onset
from jaxgen.studies.analyses.finetuning import analyse_finetuning
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.figures import write_figures
from jaxgen.studies.report import write_report
from jaxgen.studies.study_runs import find_directories, group_by_ladder, read_runs

LOSSES = np.linspace(2.6, 1.2, 12)
COUNTS = (8, 64, 512)
SLOPE, RATE, POWER, FEW_SHOT = 0.5, 0.05, 1.5, 1.6
RANDOM = np.random.default_rng(0)


def score(loss, examples):
    """Snell's law with the noise of a hundred instances."""
    threshold = RATE * np.log(examples) ** POWER + FEW_SHOT
    share = SLOPE * max(0.0, threshold - loss)
    return float(RANDOM.binomial(400, share) / 400)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_finetuned_study(folder, LOSSES, COUNTS, score)
    return folder


def test_models_that_cannot_do_it_say_when_others_will(study):
    """Of twelve models four do it as they are; the law never sees them."""
    (found,) = analyse_finetuning(read_runs(study))
    assert (found["task"], found["mixture"]) == ("words", "words") and found["is_of_unable"]
    fitted = {point["parent"] for point in found["points"] if point["is_fitted"]}
    able = {one["run"] for one in found["untuned"] if one["performance"] > 0.05}
    assert able and not fitted & able and len(fitted | able) == len(LOSSES)
    law = {one["name"]: one for one in found["law"]}
    assert law["A"]["value"] == pytest.approx(SLOPE, rel=0.15)
    onset = law["C"]
    assert onset["interval"].low <= FEW_SHOT <= onset["interval"].high
    assert onset["value"] == pytest.approx(FEW_SHOT, abs=0.1)
    seen = found["onset"]["loss"]
    assert seen.low - 0.02 <= FEW_SHOT <= seen.high + 0.02
    losses = {one["examples"]: one["loss"] for one in found["thresholds"]}
    assert losses[512] == pytest.approx(RATE * np.log(512) ** POWER + FEW_SHOT, abs=0.05)


def test_fine_tuned_runs_are_in_no_law_and_no_curve(study):
    runs = read_runs(study)
    (mine,) = group_by_ladder(runs).values()
    assert len(mine) == len(LOSSES) and len(runs) == len(LOSSES) * (1 + len(COUNTS))
    assert not any(run.parent for run in mine)


@pytest.mark.slow
def test_the_page_and_the_figures_show_it(study, tmp_path):
    analysis = analyse(study)
    json.dumps(analysis, allow_nan=False)
    children = [run for run in analysis["runs"] if run["parent"]]
    assert len(children) == len(LOSSES) * len(COUNTS) and children[0]["parent"].startswith("m")
    files = {path.name for path in write_figures(sections_of(analysis), tmp_path)}
    assert "finetuning-words-words.png" in files
    page = write_report(find_directories(study), tmp_path / "report.html", "t", "l", analysis)
    assert_paints(page.read_text(), sections_of(analysis), tmp_path)


def test_what_cannot_be_told_is_said(tmp_path):
    write_finetuned_study(tmp_path, LOSSES[:2], COUNTS, score)
    (found,) = analyse_finetuning(read_runs(tmp_path))
    assert "2 models and 3 numbers of examples" in found["why_not"]
    assert found["onset"]["why_not"] == "no model of the study does the task without fine-tuning."
    with pytest.raises(EmergenceError, match="an onset needs 4 models"):
        fit_onset(np.ones(3), np.ones(3), 0.0)


@pytest.mark.slow
def test_an_onset_is_where_its_interval_says():
    random, inside = np.random.default_rng(0), 0
    loss = np.linspace(3, 1, 12)
    for _ in range(200):
        at = random.uniform(1.4, 2.4)
        seen = 0.4 * np.maximum(0, at - loss) + random.normal(0, 0.02, len(loss))
        onset = fit_onset(loss, np.maximum(seen, 0), 0.0)
        inside += onset.loss.contains(at)
    assert inside >= 0.85 * 200
