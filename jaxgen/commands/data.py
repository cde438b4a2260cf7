"""`jaxgen data report`: a page about a mixture, before anything is trained on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxgen.commands.tasks import load_mixture
from jaxgen.data.mixtures import Mixture
from jaxgen.data.report import write_data_report
from jaxgen.data.statistics import ReadingPlan
from jaxgen.errors import ConfigError


def report(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its path.

    Args:
      arguments: `mixture`, a gin file of a mixture or of a run; `gin_files` and `bindings` beside
        it; `output`; `length`, `source_length`, `batch_size` and `steps`, each None to take those
        of the run, where there is one.
    """
    mixture, run = load_mixture([arguments.mixture, *arguments.gin_files], arguments.bindings)
    if not isinstance(mixture, Mixture):
        raise ConfigError(
            f"a data report is of a mixture of tasks, not of {type(mixture).__name__}; "
            "`jaxgen tasks show TASK --gin_file=FILE` shows the records of its task."
        )
    length, source_length = arguments.length or 256, arguments.source_length
    batch_size, steps = arguments.batch_size or 16, arguments.steps or 1000
    num_rows = batch_size * steps
    if run is not None:
        train = run.train
        length = arguments.length or train.length
        source_length = arguments.source_length or train.source_length
        batch_size = arguments.batch_size or train.batch_size
        total = arguments.steps or train.total_steps(run.model.count().active, run.rows_per_example)
        num_rows = train.batch_sizes.rows_before(total)
    seed = 0 if run is None else run.train.seed
    plan = ReadingPlan(batch_size, length, source_length, num_rows, seed)
    statistics = write_data_report(mixture, plan, Path(arguments.output))
    for one in statistics:
        print(
            f"{one.task.identity:24} {one.share_of_tokens:8.3%} of tokens, "
            f"{1 - one.share_used:6.2%} padding, {one.epochs:.3g} epochs"
        )
    print(arguments.output)
    return 0
