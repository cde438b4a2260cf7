"""What must be equal when a disturbed run has ended."""

from __future__ import annotations

import functools
import json
from typing import Any

from chaos_faults.workload import HERE, Workload
from jaxgen.configuration import imported, load_recorded
from jaxgen.files import read_rows
from jaxgen.runs.checkpoint_writing import UNFINISHED
from jaxgen.runs.history import read_rewinds
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.divergence import Skip, data_step
from jaxgen.training.timing import TIMING_COLUMNS


def problems_of(disturbed: Workload, reference: Workload) -> list[str]:
    """Returns what is wrong with a run that has ended, one line each; none if all is equal.

    Args:
      disturbed: the run.
      reference: one that nothing disturbed, with the same batches left out.
    """
    run, other = RunDirectory(disturbed.run_dir), RunDirectory(reference.run_dir)
    found = []
    if _final_record(run) != _final_record(other):
        found.append("the final parameters, or what is saved beside them, differ")
    if run.read_record()["evaluation"] != other.read_record()["evaluation"]:
        found.append("the final evaluation differs")
    found += _of_rows(run, other)
    found += _of_batches(run)
    found += _of_evaluations(run, other)
    files = [path.name for path in run.checkpoints.glob(UNFINISHED)]
    return found + ([f"unfinished checkpoints are left: {files}"] if files else [])


def _final_record(run: RunDirectory) -> dict[str, Any]:
    """Returns the record of the last checkpoint: digests of all arrays, sums, guard."""
    newest = run.checkpoints / str(run.saved_steps()[-1])
    return json.loads((newest / "record" / "metadata").read_text())


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMING_COLUMNS}


def _of_rows(run: RunDirectory, other: RunDirectory) -> list[str]:
    """Compares the last row of each step, and every earlier one unless the run went back."""
    expected = {row["step"]: _without_times(row) for row in read_metrics(other.metrics_file)}
    last = {row["step"]: _without_times(row) for row in read_metrics(run.metrics_file)}
    wrong = sorted(step for step in expected.keys() | last.keys()
                   if last.get(step) != expected.get(step))  # fmt: skip
    found = [f"the rows of the steps {wrong} differ"] if wrong else []
    if not read_rewinds(run.history_file):
        again = {row["step"] for row in read_rows(run.metrics_file)
                 if _without_times(row) != expected.get(row["step"])}  # fmt: skip
        found += [f"rows that were written again differ: {sorted(again)}"] if again else []
    return found


def _of_batches(run: RunDirectory) -> list[str]:
    """Compares the rows that each step was trained on with the data's order, read by itself."""
    skips = [Skip(after, count) for after, count in read_rewinds(run.history_file)]
    digests = _digests_by_batch(str(run.path))
    wrong = []
    for row in read_metrics(run.metrics_file):
        batch = data_step(row["step"] - 1, skips)
        if row["rows_digest"] != digests(batch):
            wrong.append(row["step"])
    return [f"the steps {wrong} were trained on other rows than theirs"] if wrong else []


@functools.cache
def _digests_by_batch(path: str) -> Any:
    """Returns a function from the number of a batch to the mean of its rows' digests."""
    from chaos_faults.parts import digests_of

    run = RunDirectory(path)
    with imported([str(HERE / "parts.py")]):
        config = load_recorded(run.config_file)
    train = config.train
    data = config.mixture.open(
        batch_size=train.batch_size,
        length=train.length,
        seed=train.seed,
        rows_before=train.batch_sizes.rows_before,
    )
    return lambda number: float(digests_of(data.batch(number)).astype(float).mean())


def _of_evaluations(run: RunDirectory, other: RunDirectory) -> list[str]:
    found = []
    for path in sorted(other.evaluations.glob("*.jsonl")):
        mine = run.evaluations / path.name
        if not mine.exists():
            found.append(f"the evaluation {path.name} is missing")
        elif read_rows(mine) != read_rows(path):
            found.append(f"the evaluation {path.name} differs")
    return found
