"""`jaxgen rollouts`: a run's completions of prompts with their scores, as JSON lines."""

from __future__ import annotations

import argparse
from pathlib import Path

import jax

from jaxgen import distributed
from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.posttraining.collecting import Collecting, collect
from jaxgen.posttraining.rollouts import Rollouts
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def write_rollouts(arguments: argparse.Namespace) -> int:
    """Samples completions of `@rollouts()` in the given files with a run's model, and scores them.

    Args:
      arguments: `run_dir`, `step`, `ema`, `average`; `gin_files`, `bindings`; `output`,
        `num_prompts`, `at_least`, `length`, `batch_size`, `seed`.
    """
    prepare_process()
    if distributed.process_count() > 1:
        raise ConfigError("this command runs in one process; start it without others.")
    rollouts = _rollouts(arguments)
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir, mesh, arguments.step, ema=arguments.ema, average=arguments.average
        )
        codec = restored.config.mixture.codec
        if rollouts.codec.digest != codec.digest:
            raise ConfigError(
                f"the run reads tokens of {codec.digest}, and the tasks of rollouts are of "
                f"{rollouts.codec.digest}; give them the run's codec."
            )
        length = arguments.length or restored.config.train.length
        made = collect(
            restored.language_model,
            rollouts,
            length,
            arguments.num_prompts,
            Collecting(arguments.at_least, arguments.seed),
            Path(arguments.output),
            arguments.batch_size,
            (str(restored.directory.path), restored.step, rollouts, length),
        )
    print(f"{made} new rows in {arguments.output}")
    return 0


def _rollouts(arguments: argparse.Namespace) -> Rollouts:
    if not arguments.gin_files:
        raise ConfigError("name a file that binds @rollouts(), such as runs/sums_rewarded.gin.")
    config = load(arguments.gin_files, arguments.bindings)
    if not isinstance(config.mixture, Rollouts):
        raise ConfigError(
            f"run.mixture is {type(config.mixture).__name__}; bind it to @rollouts(), which says "
            "what is asked and how answers are scored."
        )
    return config.mixture
