"""`jaxgen extend`: a longer run that continues from a checkpoint of a finished one."""

from __future__ import annotations

import argparse

from jaxgen.commands.summary import summary_lines
from jaxgen.diagnostics.extending import extend as make_longer
from jaxgen.process import prepare_process
from jaxgen.runs.run import run
from jaxgen.training.execution import ExecutionConfig


def extend(arguments: argparse.Namespace) -> int:
    """Makes the longer run and trains it to its end.

    Args:
      arguments: `run_dir` of the finished run, `output`, that of the longer one, and `steps`;
        `gin_files` and `bindings` of a stage with other settings.
    """
    prepare_process()
    config, step = make_longer(
        arguments.run_dir,
        arguments.output,
        arguments.steps,
        arguments.gin_files,
        arguments.bindings,
    )
    print(f"{config.name} continues from step {step}", flush=True)
    finished = run(config, arguments.output, ExecutionConfig())
    for line in summary_lines(finished.record):
        print(line)
    print(f"run directory: {finished.directory.path}")
    return 0
