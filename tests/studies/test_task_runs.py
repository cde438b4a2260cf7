"""Measurements of a study's runs as numbers, and their way through a file."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.synthetic_study import law, write_ability_study

from jaxgen.emergence import Design, simulate
from jaxgen.errors import StudyError
from jaxgen.files import append_rows
from jaxgen.studies.study_runs import read_runs
from jaxgen.studies.task_runs import mean_over, read_csv, read_task_runs, write_csv

RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "forecasts.csv"
TABLE = simulate(Design(scales=5, seeds=2, instances=50), "mirage", seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_ability_study(folder, {"mirage": TABLE})
    return folder


def test_ends_have_the_losses_and_scores_of_the_runs(folder):
    (mean, mirage) = sorted(read_task_runs(folder), key=lambda one: one.is_scored)
    runs = read_runs(folder)
    assert mean["loss"].tolist() == [run.loss() for run in runs]
    assert not mean.is_scored and mirage.is_scored
    assert mirage.is_final.all() and len(mirage) == 10
    assert mirage["instances"].tolist() == [50] * 10
    assert mirage["flops"].tolist() == [run.record["flops"] for run in runs]
    rows = TABLE.rung == 4, TABLE.seed == "1"
    exact = TABLE.metrics["exact_match"][rows[0] & rows[1]].mean()
    (mine,) = np.flatnonzero((mirage.rung == "rung4") & (mirage["seed"] == 1))
    assert mirage["exact_match"][mine] == pytest.approx(exact)
    assert mean["loss"][0] == pytest.approx(law(mean["parameters"][0], 1e7), rel=0.05)


def test_checkpoints_are_rows_too(folder, tmp_path):
    run = read_runs(folder)[0]
    steps = run.record["steps"]
    (task,) = run.losses
    append_rows(run.directory.metrics_file, [{"step": steps // 2, f"heldout_loss/{task}": 9.0}])
    answers = run.answers_file.read_text()
    half = run.directory.evaluations / f"{steps // 2:08}.jsonl"
    half.write_text(answers)
    try:
        found = {one.task: one for one in read_task_runs(folder)}
    finally:
        half.unlink()
    curve = found[task].select(~found[task].is_final)
    assert curve["loss"].tolist() == [9.0] and curve["step"].tolist() == [steps // 2]
    assert curve["tokens"][0] == pytest.approx(run.record["tokens"] * (steps // 2) / steps)
    scored = found["mirage"].select(~found["mirage"].is_final)
    assert len(scored) == 1 and scored["instances"][0] == len(answers.splitlines())


def test_means_over_tasks_are_of_the_steps_that_all_have():
    tasks = {one.task: one for one in read_csv(RESULTS)}
    code, prose = tasks["code"], tasks["prose"]
    partly = prose.select((prose["step"] != 240) | (prose["seed"] == 1))
    unmeasured = dataclasses.replace(
        code, numbers=code.numbers | {"loss": np.full(len(code), np.nan)}
    )
    mean = mean_over([code, unmeasured, partly])
    assert mean is not None and len(mean) == len(partly) == len(prose) - 7
    for row in range(len(mean)):
        same = [
            (one.names == mean.names[row]) & (one["step"] == mean["step"][row])
            for one in (code, prose)
        ]
        expected = (code["loss"][same[0]] + prose["loss"][same[1]]) / 2
        assert mean["loss"][row] == pytest.approx(float(expected[0]))
    assert mean_over([unmeasured]) is None


def test_a_file_gives_back_what_it_was_given(folder, tmp_path):
    tasks = read_task_runs(folder)
    write_csv(tmp_path / "ladders.csv", tasks)
    for one, other in zip(tasks, read_csv(tmp_path / "ladders.csv"), strict=True):
        assert (one.task, one.study, one.kind) == (other.task, other.study, other.kind)
        assert one.rung.tolist() == other.rung.tolist()
        for name, values in one.numbers.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-6)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match="has no column"):
        read_csv(wrong)
    text = (tmp_path / "ladders.csv").read_text().replace("50\n", "many\n", 1)
    wrong.write_text(text)
    with pytest.raises(StudyError, match=r"wrong.csv:\d+: could not convert .*'many'"):
        read_csv(wrong)


def test_numbers_are_plain(folder):
    for task in read_task_runs(folder):
        json.dumps({name: values.tolist() for name, values in task.numbers.items()})
