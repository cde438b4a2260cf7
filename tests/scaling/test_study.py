"""A study of real, tiny runs; and the report made of them."""

import dataclasses
import json
import re

import pytest

from jaxgen.configuration import load
from jaxgen.scaling.ladder import Rung, climb
from jaxgen.scaling.report import describe, write_report
from jaxgen.scaling.samples import save_samples
from jaxgen.scaling.study import run_study
from jaxgen.training.run_directory import RunDirectory

BINDINGS = [
    "model.num_layers=1", "model.embed_dim=8", "model.num_heads=1", "model.mlp_dim=8",
    "train.steps=4", "train.batch_size=2", "train.length=64", "train.log_every=2",
    "evaluation.num_examples=4", "evaluation.num_batches=1", "evaluation.batch_size=4",
    "mixture.tasks=[@addition/task(), @prose/task()]",
    "mixture.weights={'addition': 0.5, 'prose': 0.5}",
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two runs that finish and one that cannot start."""
    folder = tmp_path_factory.mktemp("study")
    base = load(["runs/quickstart.gin"], BINDINGS)
    configs = climb(base, [Rung("small", {}), Rung("large", {"mlp_dim": 16})], seeds=[3])
    broken = dataclasses.replace(
        base, name="broken", train=dataclasses.replace(base.train, length=4)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        results = run_study([*configs, broken], folder, jobs=2, after=save_samples)
    return folder, configs, results


def test_a_ladder_is_every_rung_with_every_seed():
    base = load(["runs/quickstart.gin"], BINDINGS)
    configs = climb(base, [Rung("a", {}), Rung("b", {"mlp_dim": 99}, {"steps": 7})], seeds=[0, 1])
    assert [config.name for config in configs] == ["a-seed0", "b-seed0", "a-seed1", "b-seed1"]
    assert configs[3].model.mlp_dim == 99 and configs[3].train.steps == 7
    assert [config.train.seed for config in configs] == [0, 0, 1, 1]


def test_a_run_that_fails_is_told_and_the_others_finish(study):
    _, _, results = study
    assert [result.error is None for result in results] == [True, True, False]
    assert "do not fit" in results[2].error or "does not fit" in results[2].error
    assert all(result.directory.is_finished() for result in results[:2])


def test_finished_runs_are_not_run_again(study):
    folder, configs, _ = study
    before = {path: path.read_bytes() for path in folder.glob("*/metrics.jsonl")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        results = run_study(configs, folder, jobs=2, after=save_samples)
    assert all(result.error is None for result in results)
    assert before == {path: path.read_bytes() for path in before}


def test_the_report_holds_the_runs_figures_and_nothing_to_fetch(study):
    folder, _, results = study
    finished = [result.directory for result in results[:2]]
    page = write_report(finished, folder / "report.html", "Title <b>", "A lead.").read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert "{{" not in page.split("<script>")[0] and "Title &lt;b&gt;" in page
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    data = json.loads(found.group(1))
    assert {run["name"] for run in data["runs"]} == {"small-seed3", "large-seed3"}
    for run in data["runs"]:
        record = RunDirectory(folder / run["name"]).read_record()
        assert (
            run["scores"]["addition"]["exact_match"]
            == (record["evaluation"]["addition"]["exact_match"])
        )
        assert run["curve"]["flops"][-1] == record["flops"]
        answers = [row for row in run["samples"] if row["task"] == "addition"]
        assert len(answers) == 4
        for row in answers:
            first, second = row["prompt"].rstrip("=").split("+")
            assert int(row["right"]) == int(first) + int(second)
        assert any(row["task"] == "prose" and row["said"] for row in run["samples"])


def test_a_run_that_is_not_finished_is_no_part_of_a_report(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_record({"finished": False})
    with pytest.raises(Exception, match="not finished"):
        describe(directory, tmp_path)
