"""Loads of experts by task that are known."""

import json
from typing import Any

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import config_text, write_run

from jaxgen.studies.analyses.expert_use import EXPERT_USE, analyse_expert_use
from jaxgen.studies.analyses.runs import describe_run
from jaxgen.studies.analysis import plain
from jaxgen.studies.figures import write_figures
from jaxgen.studies.report import page_of
from jaxgen.studies.study_runs import read_runs

EVEN = [[0.25] * 4] * 2
OWN = [[0.0, 0.0, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]]


def add_loads(directory, **loads):
    rows = [json.loads(line) for line in directory.metrics_file.read_text().splitlines()]
    for row in rows:
        row |= {name.replace("__", "/"): value for name, value in loads.items()}
    # A task that the last steps did not see.
    rows[-1]["router/load/addition"] = None
    directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def study(tmp_path):
    write_run(tmp_path, "dense", 0, 1e6, 1e7, 2.0, {}, config_text())
    sparse = write_run(tmp_path, "moe", 0, 1e6, 1e7, 1.9, {}, config_text(), total=4_000_000)
    add_loads(
        sparse, router__load=EVEN, router__load__addition=OWN, router__load__text=EVEN,
        router__load_balance_loss=1.0,
    )  # fmt: skip
    return read_runs(tmp_path)


def test_a_task_with_experts_of_its_own_is_far_from_the_mixture(study):
    (found,) = plain(analyse_expert_use(study))
    assert found["run"] == "moe-seed0" and found["load"] == EVEN
    assert found["tasks"] == {"addition": OWN, "text": EVEN}
    # Half of (0.25 + 0.25 + 0.25 + 0.25) and of (0.75 + 3 * 0.25).
    assert found["distances"] == {"addition": pytest.approx((0.5 + 0.75) / 2), "text": 0.0}


def test_the_heat_map_is_in_the_report(study, tmp_path):
    found = plain(analyse_expert_use(study))
    section = EXPERT_USE.section({"runs": [describe_run(r) for r in study], "expert_use": found})
    assert section is not None
    blocks: Any = section.blocks
    _, figure, table, _ = blocks
    assert [panel.title for panel in figure.panels] == [
        "sparse layer 1 of 2",
        "sparse layer 2 of 2",
    ]
    np.testing.assert_array_equal(np.transpose(figure.panels[1].values)[0], OWN[1])
    # Two experts in the first layer, one in the second; even loads use all four.
    assert [row[-1] for row in table.rows] == ["1.5", "4.0"]
    files = write_figures([section], tmp_path / "figures")
    assert_paints(page_of("T", "L", [section], {}), [section], tmp_path)
    assert [path.name for path in files] == [
        "expert-use-moe-seed0.pdf", "expert-use-moe-seed0.png"
    ]  # fmt: skip


def test_runs_without_experts_have_no_section(tmp_path):
    write_run(tmp_path, "dense", 0, 1e6, 1e7, 2.0, {}, config_text())
    assert analyse_expert_use(read_runs(tmp_path)) == []
    assert EXPERT_USE.section({"expert_use": []}) is None
