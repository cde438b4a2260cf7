"""Slurm as an engine of preparations, by an sbatch of our own that runs a script's tasks here."""

import os
import subprocess
import sys
from typing import Any

import pytest

from jaxgen.cli import main
from jaxgen.errors import ConfigError, DataError
from jaxgen.preparation import job_array
from jaxgen.preparation.engines import map_items
from jaxgen.slurm import TASK, JobArray

SBATCH = """#!/bin/bash
# Runs every task of the array; squeue knows the job until then.
script="${@: -1}"
echo "$@" >> "$CLUSTER/calls"
job=$(wc -l < "$CLUSTER/calls")
touch "$CLUSTER/queue-$job"
last=$(sed -n 's/^#SBATCH --array=0-*\\([0-9]*\\).*/\\1/p' "$script")
(
  for task in $(seq 0 "${last:-0}"); do SLURM_ARRAY_TASK_ID=$task bash "$script"; done
  rm -f "$CLUSTER/queue-$job"
) > "$CLUSTER/log-$job" 2>&1 &
echo "$job;here"
"""
SQUEUE = """#!/bin/bash
[ -e "$CLUSTER/queue-${2#--jobs=}" ] && echo "${2#--jobs=}_[0-3] long" || true
"""
SCANCEL = """#!/bin/bash
echo "$1" >> "$CLUSTER/cancelled"; rm -f "$CLUSTER/queue-$1"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("CLUSTER", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(job_array, "PAUSE", 0.05)
    monkeypatch.setattr(job_array, "LOOKS_AFTER_THE_END", 3)
    return folder


PARTS = """
import os
def squared(item):
    if item == "broken":
        raise ValueError("this item is broken")
    if item == "killed":
        os.kill(os.getpid(), 9)
    return item * item
"""


@pytest.fixture
def squared(tmp_path, monkeypatch):
    """A function of a file that only `--import` would find."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "parts_of_a_stranger.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path / "parts"))
    import parts_of_a_stranger  # pyright: ignore[reportMissingImports]

    yield parts_of_a_stranger.squared
    del sys.modules["parts_of_a_stranger"]


def test_items_are_shared_by_the_tasks_of_an_array(cluster, squared, tmp_path, monkeypatch):
    monkeypatch.setattr(job_array, "TASKS_AT_MOST", 2)
    options = ["--partition=long"]
    found = map_items(squared, range(5), "slurm", 3, folder=tmp_path / "work", sbatch=options)
    assert sorted(found) == [(place, place * place) for place in range(5)]
    script = (tmp_path / "work" / "squared" / "array.sbatch").read_text()
    for line in ("--job-name=jaxgen-squared", "--array=0-1%3", "--partition=long"):
        assert f"#SBATCH {line}\n" in script
    assert (cluster / "calls").read_text().startswith("--parsable ")
    # Nothing is left to be in the way of a second time, and old results are no results.
    found = map_items(squared, range(1, 3), "slurm", folder=tmp_path / "work")
    assert sorted(found) == [(0, 1), (1, 4)]


def test_errors_of_items_and_lost_tasks_are_told(cluster, squared, tmp_path):
    with pytest.raises(ValueError, match="this item is broken"):
        list(map_items(squared, [1, "broken"], "slurm", folder=tmp_path / "work"))
    lost = map_items(squared, [2, "killed", 3], "slurm", folder=tmp_path / "work")
    with pytest.raises(DataError, match=r"2 ended without the results of 1 of 3.*slurm-2_\*\.log"):
        list(lost)


def test_an_array_of_a_process_that_was_killed_is_cancelled_first(cluster, squared, tmp_path):
    folder = tmp_path / "work" / "squared"
    folder.mkdir(parents=True)
    (folder / "job_id").write_text("16")
    (cluster / "queue-16").write_text("")
    assert list(map_items(squared, [4], "slurm", folder=tmp_path / "work")) == [(0, 16)]
    assert (cluster / "cancelled").read_text().splitlines()[0] == "16"
    assert not (folder / "job_id").exists()


@pytest.mark.slow
def test_a_preparation_by_slurm_makes_the_same_bytes(cluster, tmp_path, monkeypatch):
    """By the command, in the folder of this repository: the tasks import jaxgen from there."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        texts = [f"{name} {number % 9} one of the texts of a file" for number in range(20)]
        lines = "".join(f'{{"text": "{text}"}}\n' for text in texts)
        (tmp_path / "in" / f"{name}.jsonl").write_text(lines)
    gin = tmp_path / "text.gin"
    gin.write_text(
        "preparation.sources = (@jsonl(),)\n"
        f"jsonl.pattern = '{tmp_path}/in'\npreparation.item_bytes = 1\n"
    )
    command = ["prepare", f"--gin_file={gin}"]
    assert main([*command, f"--output={tmp_path}/slurm", "--engine=slurm"]) == 0
    assert (
        len((cluster / "calls").read_text().splitlines()) == 2
    )  # Once to clean, once to tokenise.
    monkeypatch.setattr(
        "jaxgen.preparation.prepare.map_items",
        lambda function, jobs, *rest: enumerate(map(function, jobs)),
    )
    assert main([*command, f"--output={tmp_path}/local"]) == 0
    made = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("slurm", "local")
    ]
    assert made[0] == made[1] and "train-00001.tokens" in made[0]


def test_options_of_another_engine_are_refused(tmp_path):
    cases: list[tuple[dict[str, Any], str]] = [
        ({"sbatch": ["--mem=1G"]}, "--sbatch=--mem=1G needs --engine=slurm"),
        ({"address": "auto", "engine": "slurm", "folder": tmp_path}, "--address=auto needs"),
    ]
    for options, words in cases:
        with pytest.raises(ConfigError, match=words):
            map_items(len, [], **options)


def test_the_tasks_index_stands_where_it_is_asked_for(tmp_path):
    """In a word of its own or at the end of one; other words reach the program as they are."""
    words = ["printf", "%s|", "a b", f"--only={TASK}", TASK, "$HOME '", ""]
    script = JobArray("name", [3], words, tmp_path).script()
    (tmp_path / "script").write_text(script)
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "3"}
    found = subprocess.run(["bash", str(tmp_path / "script")], capture_output=True, env=environment)
    assert found.stdout.decode() == "a b|--only=3|3|$HOME '||"
