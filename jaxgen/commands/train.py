"""`jaxgen train` trains and evaluates a configuration in a run directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jaxgen.configuration import load_run, recorded_imports
from jaxgen.errors import ConfigError


def train(arguments: argparse.Namespace) -> int:
    """Trains, or continues where the directory left off, on any mesh.

    Args:
      arguments: `gin_files` and `bindings`, and `run_dir`.
    """
    if not arguments.gin_files:
        raise ConfigError(
            "no configuration given; try --gin_file=runs/quickstart.gin "
            "(`jaxgen config show --gin_file=...` prints what is in a file)."
        )
    missing = [
        one["file"]
        for one in recorded_imports(Path(arguments.run_dir))
        if one["module"] not in sys.modules
    ]
    if missing:
        raise ConfigError(
            f"the run in {arguments.run_dir} has parts of a file of its own; give it again: "
            + " ".join(f"--import={file}" for file in missing)
        )
    config, execution = load_run(arguments.gin_files, arguments.bindings)
    from jaxgen.commands.summary import summary_lines
    from jaxgen.process import prepare_process
    from jaxgen.runs.run import run

    prepare_process()
    finished = run(config, arguments.run_dir, execution)
    for line in summary_lines(finished.record):
        print(line)
    print(
        f"run directory: {finished.directory.path}  (curves: jaxgen watch, or tensorboard --logdir)"
    )
    return 0
