"""Rewards of runs: known win rates, and curves against the distance from the reference."""

import json

import pytest
import scipy.stats
from support.browser import assert_paints
from support.synthetic_study import config_text, write_run

from jaxgen.studies.analyses.alignment import ALIGNMENT
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.plots import DataTable
from jaxgen.studies.report import page_of


def write(folder, rung, seed, rewards, kl=()):
    """Of a run that learned from rewards there is no held-out loss."""
    tuned = {"evaluation": {}, "initialized_from": {"name": "base-seed0", "fingerprint": "f"}}
    changes = tuned if kl else {}
    directory = write_run(folder, rung, seed, 1e4, 1e6, 2.0, {}, config_text(), **changes)
    rows = [
        {"task": "written", "instance": str(i), "rewarded_task": "poems", "said": "x",
         **({} if one is None else {"reward": one, "reward/gold": -one})}
        for i, one in enumerate(rewards)
    ]  # fmt: skip
    answers = directory.evaluation_file(10)
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        {"step": step, "tokens": step, "loss": 0.0, "kl": one, "reward": one + 1,
         "reward_part/gold": 1 - one}
        for step, one in enumerate(kl, 1)
    ]  # fmt: skip
    if lines:
        directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in lines))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Of six prompts, in two seeds, the tuned run wins three, ties one and loses one."""
    folder = tmp_path_factory.mktemp("study")
    for seed in (0, 1):
        write(folder, "base", seed, [0.0, 0.0, 0.0, 1.0, 2.0, 5.0])
        write(folder, "tuned", seed, [1.0, 2.0, 3.0, 1.0, 0.0, None], kl=[0.0, 0.5, 2.0])
    return analyse(folder)


def test_runs_are_compared_prompt_by_prompt(tree):
    wins = {win["column"]: win for win in tree["alignment"]["wins"]}
    reward, gold = wins["reward"], wins["reward/gold"]
    assert (reward["first"], reward["second"], reward["prompts"]) == ("base", "tuned", 10)
    scores = [0, 0, 0, 0.5, 1] * 2
    normal = scipy.stats.norm.interval(0.95, sum(scores) / 10, scipy.stats.sem(scores))
    assert reward["rate"] == pytest.approx(0.3) and gold["rate"] == pytest.approx(0.7)
    assert (reward["low"], reward["high"]) == pytest.approx(normal, abs=1e-4)
    means = {one["rung"]: one["means"]["reward"] for one in tree["alignment"]["rewards"]}
    assert means["tuned"]["mean"] == pytest.approx(1.4) and means["tuned"]["prompts"] == 10


def test_curves_are_of_runs_that_learn_from_rewards(tree):
    curves = tree["alignment"]["curves"]
    assert [curve["run"] for curve in curves] == ["tuned-seed0", "tuned-seed1"]
    assert curves[0]["kl"] == [0.0, 0.5, 2.0] and curves[0]["reward"] == [1.0, 1.5, 3.0]
    assert curves[0]["parts"] == {"gold": [1.0, 0.5, -1.0]}


def test_the_page_shows_who_wins_and_how_far_it_has_gone(tree, tmp_path):
    section = ALIGNMENT.section(tree)
    assert section is not None
    tables = [block for block in section.blocks if isinstance(block, DataTable)]
    assert [len(table.rows) for table in tables] == [4, 2, 2]  # Means, and who wins by each.
    assert tables[1].rows == [("base", "", ("0.30", "")), ("tuned", ("0.70", ""), "")]
    assert_paints(page_of("T", "L", sections_of(tree), tree), sections_of(tree), tmp_path)


def test_a_study_without_rewards_has_no_such_section(tmp_path):
    write_run(tmp_path, "base", 0, 1e4, 1e6, 2.0, {}, config_text())
    assert ALIGNMENT.section({"alignment": analyse(tmp_path)["alignment"]}) is None
