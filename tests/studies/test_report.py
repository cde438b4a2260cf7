"""A sweep of real, tiny runs; and the report made of them."""

import dataclasses
import json
import re
from typing import Any

import pytest
from support.browser import assert_paints
from support.tiny_sweep import EXECUTION, base

from jaxgen.errors import StudyError
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.analysis import sections_of
from jaxgen.studies.report import write_report
from jaxgen.studies.samples import save_samples
from jaxgen.sweeps import Change, Sweep, ladder
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.scheduler import run_all


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two runs that finish and one that cannot start."""
    folder = tmp_path_factory.mktemp("study")
    runs = ladder(base(), [Change("small", {}), Change("large", {"model.mlp_dim": 16})], seeds=[3])
    short = dataclasses.replace(base().train, length=4)
    broken = dataclasses.replace(base(), name="broken", train=short)
    sweep = Sweep("study", "1", [*runs, broken], after=save_samples, execution=EXECUTION)
    return folder, sweep, begin(sweep, folder)


def begin(sweep, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        return run_all(sweep, folder, LocalEngine(sweep, folder, 2), retries=0)


def test_a_ladder_is_every_rung_with_every_seed():
    rungs = [Change("a", {}), Change("b", {"model.mlp_dim": 99, "train.steps": 7})]
    configs: list[Any] = ladder(base(), rungs, seeds=[0, 1])
    assert [config.name for config in configs] == ["a-seed0", "b-seed0", "a-seed1", "b-seed1"]
    assert configs[3].model.mlp_dim == 99 and configs[3].train.steps == 7
    assert [config.train.seed for config in configs] == [0, 0, 1, 1]


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_finish(study):
    folder, sweep, states = study
    assert [state.state for state in states] == ["finished", "finished", "failed"]
    assert "do not fit" in states[2].why or "does not fit" in states[2].why
    assert all(directory.is_finished() for directory in sweep.directories(folder)[:2])


@pytest.mark.slow
def test_finished_runs_are_not_run_again(study):
    folder, sweep, _ = study
    before = {path: path.read_bytes() for path in folder.glob("*/metrics.jsonl")}
    again = dataclasses.replace(sweep, runs=sweep.runs[:2])
    assert all(state.state == "finished" for state in begin(again, folder))
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.slow
def test_the_report_holds_the_runs_figures_and_nothing_to_fetch(study, tmp_path):
    folder, sweep, _ = study
    finished = sweep.directories(folder)[:2]
    page = write_report(finished, folder / "report.html", "Title <b>", "A lead.").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert "{{" not in page.split("<script>")[0] and "Title &lt;b&gt;" in page
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data = json.loads(found.group(1))
    found = data["analysis"]
    assert_paints(page, sections_of(found), tmp_path)
    curves = {curve["run"]: curve for curve in found["training"]}
    assert {run["name"] for run in found["runs"]} == {"small-seed3", "large-seed3"} == set(curves)
    for run in found["runs"]:
        record = RunDirectory(folder / run["name"]).read_record()
        assert (
            run["scores"]["addition"]["exact_match"]
            == (record["evaluation"]["addition"]["exact_match"])
        )
        assert curves[run["name"]]["flops"][-1] == record["flops"]
        samples = [row for row in found["samples"] if row["run"] == run["name"]]
        answers = [row for row in samples if row["task"] == "addition"]
        assert len(answers) == 4
        for row in answers:
            first, second = row["prompt"].rstrip("=").split("+")
            assert int(row["reference"]) == int(first) + int(second)
        assert any(row["task"] == "prose" and row["completion"] for row in samples)


def test_a_run_that_is_not_finished_is_no_part_of_a_report(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_record({"finished": False})
    with pytest.raises(StudyError, match="not finished"):
        write_report([directory], tmp_path / "report.html", "T", "L")
