"""What must be equal of two executions of one run."""

import json
from pathlib import Path

from jaxgen.runs.run_directory import read_metrics
from jaxgen.training.timing import TIMING_COLUMNS


def rows_without_times(run_dir):
    """The rows, but for what clocks say."""
    rows = read_metrics(Path(run_dir) / "metrics.jsonl")
    return [{name: row[name] for name in row if name not in TIMING_COLUMNS} for row in rows]


def newest_digests(run_dir):
    """The digests of all arrays of the newest checkpoint."""
    checkpoint = max(
        (Path(run_dir) / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name)
    )
    return json.loads((checkpoint / "record" / "metadata").read_text())["digests"]
