"""Evaluations that a full disk refuses, and those that a killed run owes."""

import pytest
from support.disks import fill
from support.helpers import tiny_dense
from support.rhythms import Rhythms

from jaxgen.errors import DiskError, JaxgenWarning
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.evaluation.files import EvaluationFiles
from jaxgen.runs import run as runs
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig


def test_what_a_full_disk_refuses_is_written_with_a_later_one(small_disk):
    files, filler = EvaluationFiles(), fill(small_disk)
    with pytest.warns(JaxgenWarning, match=r"4\.jsonl.*kept until there is room"):
        files.write(small_disk / "4.jsonl", "four" * 2000)
    with pytest.raises(DiskError, match=r"4\.jsonl"):
        files.close()
    filler.unlink()
    files.write(small_disk / "8.jsonl", "eight")
    found = {path.name: path.read_text() for path in small_disk.glob("*.jsonl")}
    assert found == {"4.jsonl": "four" * 2000, "8.jsonl": "eight"}


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_was_killed_in_an_evaluation_owes_it_no_more(tmp_path, monkeypatch):
    """Killed in that of step 4; the checkpoint of step 4 is whole."""
    config = RunConfig(
        tiny_dense(vocab_size=320),
        Rhythms(),
        TrainConfig(steps=8, batch_size=8, length=24),
        evaluation=EvaluationConfig(num_batches=1, batch_size=8, at_checkpoints=True),
    )
    execution = ExecutionConfig(log_every=2, checkpoint_every=2, trackers=())

    def train(name):
        runs.run(config, tmp_path / name, execution, show_progress=False)
        files = RunDirectory(tmp_path / name).evaluations.glob("*.jsonl")
        return {file.name: file.read_text() for file in files}

    whole = train("whole")
    evaluate, path = runs.evaluate, RunDirectory(tmp_path / "killed").evaluation_file(4)

    def evaluate_until_killed(*arguments):
        if path in arguments:
            raise Killed
        return evaluate(*arguments)

    monkeypatch.setattr(runs, "evaluate", evaluate_until_killed)
    with pytest.raises(Killed):
        train("killed")
    assert not path.exists() and RunDirectory(tmp_path / "killed").saved_steps()[-1] == 4
    monkeypatch.undo()
    assert train("killed") == whole and len(whole) == 4
