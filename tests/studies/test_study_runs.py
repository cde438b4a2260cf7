"""From run directories to tables; and every study that cannot be read has one message."""

import dataclasses
import json

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import answers_of, config_text, law, write_law_study, write_run

from jaxgen.emergence import Design, simulate
from jaxgen.errors import StudyError
from jaxgen.studies.analysis import analyse_runs, sections_of
from jaxgen.studies.report import page_of
from jaxgen.studies.scored_answers import emergence_rows
from jaxgen.studies.study_runs import LEAST_LOSS, read_runs, rung_of, table_of

TABLE = simulate(Design(scales=2, seeds=2, instances=5, answer_tokens=3), "mirage")
ANSWERS = {"mirage": answers_of(TABLE, 0, "0")}


@pytest.fixture(scope="module")
def config():
    return config_text()


def small(folder, config, name="a", seed=0, loss=2.0, answers=ANSWERS, **changes):
    return write_run(folder, name, seed, 1e5, 1e6, loss, answers, config, **changes)


def test_a_table_holds_what_the_runs_say(tmp_path):
    write_law_study(tmp_path, noise=0)
    runs = read_runs(tmp_path)
    table = table_of(runs)
    assert len(table) == 18 and np.all(np.diff(table.flops) >= 0)
    np.testing.assert_allclose(table.loss, law(table.parameters, table.tokens))
    np.testing.assert_allclose(table.column("without_embedding"), table.parameters - 64)
    assert table_of(runs, "text", "total").parameters.tolist() == table.column("total").tolist()
    assert rung_of("dense-2x64-seed12") == "dense-2x64" == rung_of("dense-2x64")


def test_tokens_seen_again_are_told_from_new_ones(tmp_path, config):
    small(tmp_path, config)
    shares = {"a": 0.25, "b": 0.75}
    small(tmp_path, config, seed=1, shares=shares, epochs={"a": 4.0, "b": 0.5})
    small(tmp_path, config, seed=2, shares=shares, epochs={"a": 1.0, "b": 3.0})
    table = table_of(read_runs(tmp_path))
    # Of a quarter of the million a quarter is new; of three quarters a third.
    assert table.column("unique_tokens").tolist() == [1e6, 812_500, 500_000]


def test_answers_keep_their_run_and_line(tmp_path, config):
    for rung in (0, 1):
        for seed in ("0", "1"):
            rows = answers_of(TABLE, rung, seed)
            answers = {"mirage": rows, "other": [row | {"task": "other"} for row in rows]}
            write_run(tmp_path, f"r{rung}", int(seed), 10 ** (5 + rung), 1e6, 2, answers, config)
    runs = read_runs(tmp_path)
    answers = emergence_rows(runs)
    found, lines = answers.tasks["other"], answers.lines["other"]
    assert found.num_rungs == 2 and found.num_instances == 5
    np.testing.assert_array_equal(found.metrics["exact_match"], TABLE.metrics["exact_match"])
    for run in runs:
        text = run.answers_file.read_text().splitlines()
        for instance, line in lines[run.name].items():
            row = json.loads(text[line - 1])
            assert (row["task"], row["instance"]) == ("other", instance)
    loss, exact = answers.means("other", runs)
    mine = (TABLE.rung == 1) & (TABLE.seed == "1")
    place = [run.name for run in runs].index("r1-seed1")
    assert exact[place] == TABLE.metrics["exact_match"][mine].mean()
    assert loss[place] == pytest.approx(-TABLE.metrics["log_probability"][mine].sum() / 15)


def test_a_question_asked_twice_is_two_instances(tmp_path, config):
    small(tmp_path, config, answers={"mirage": ANSWERS["mirage"] * 2})
    answers = emergence_rows(read_runs(tmp_path))
    assert answers.tasks["mirage"].num_instances == 10
    assert answers.lines["mirage"]["a-seed0"]["3 #2"] == 9


def test_a_task_without_paired_metrics_is_left_out(tmp_path, config):
    rows = [{"task": "choice", "instance": "0", "exact_match": 1}]
    small(tmp_path, config, answers={"choice": rows})
    answers = emergence_rows(read_runs(tmp_path))
    assert not answers.tasks and "log_probability" in answers.left_out["choice"]


def test_an_empty_folder(tmp_path, config):
    with pytest.raises(StudyError, match="is not a folder"):
        read_runs(tmp_path / "none")
    small(tmp_path, config, finished=False)
    with pytest.raises(StudyError, match="no finished run"):
        read_runs(tmp_path)


def test_a_run_twice(tmp_path, config):
    small(tmp_path, config)
    (tmp_path / "a-seed0").rename(tmp_path / "copy")
    small(tmp_path, config)
    with pytest.raises(StudyError, match="the same run twice"):
        read_runs(tmp_path)


def test_other_questions(tmp_path, config):
    small(tmp_path, config)
    small(tmp_path, config_text(evaluation_seed=7), seed=1)
    with pytest.raises(StudyError, match=r"differ in evaluation\.seed"):
        read_runs(tmp_path)


def test_a_loss_that_is_no_number(tmp_path, config):
    small(tmp_path, config, loss=float("nan"))
    with pytest.raises(StudyError, match="a-seed0 has loss=nan"):
        table_of(read_runs(tmp_path))


def test_runs_that_make_no_mistake_are_shown_at_the_least_loss(tmp_path, config):
    sure = [row | {"log_probability": 0.0, "exact_match": 1} for row in ANSWERS["mirage"]]
    for name, size, loss in (("a", 1e5, 0.5), ("b", 2e5, 0.0), ("c", 4e5, 0.0)):
        for seed in (0, 1):
            answers = {"mirage": ANSWERS["mirage"] if loss else sure}
            write_run(tmp_path, name, seed, size, 1e6, loss, answers, config)
    runs = read_runs(tmp_path)
    assert sorted(table_of(runs).loss) == [LEAST_LOSS] * 4 + [0.5] * 2
    analysis = analyse_runs(runs)
    assert [one["why_not"] for one in analysis["abilities"] if "why_not" in one] == []
    sections = sections_of(analysis)
    assert_paints(page_of("T", "L", sections, {}), sections, tmp_path)


def test_a_loss_that_is_not_there(tmp_path, config):
    small(tmp_path, config)
    with pytest.raises(StudyError, match="no held-out loss of task 'prose'"):
        table_of(read_runs(tmp_path), "prose")
    with pytest.raises(StudyError, match="parameters='all'"):
        table_of(read_runs(tmp_path), parameters="all")


def test_a_metric_that_some_runs_lack(tmp_path, config):
    small(tmp_path, config)
    rows = [{k: v for k, v in row.items() if k != "log_probability"} for row in ANSWERS["mirage"]]
    small(tmp_path, config, seed=1, answers={"mirage": rows})
    with pytest.raises(StudyError, match="a-seed1 has no log_probability of task 'mirage'"):
        emergence_rows(read_runs(tmp_path))


def test_answers_that_cannot_be_read(tmp_path, config):
    directory = small(tmp_path, config)
    (run,) = read_runs(tmp_path)
    run.answers_file.write_text("{")
    with pytest.raises(StudyError, match=r"jsonl:1 is not JSON"):
        emergence_rows([run])
    run.answers_file.unlink()
    with pytest.raises(StudyError, match="a-seed0 has no"):
        emergence_rows([dataclasses.replace(run, directory=directory)])
