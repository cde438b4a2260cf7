"""A finished run made longer: a new run that continues where the rate of the old was constant.

The batch of a step depends on the step alone and so does a constant rate, so the checkpoint is the
one that the longer run itself would have written; see `diagnostics.cooldown`.
"""

from __future__ import annotations

import dataclasses
import os

from jaxgen.configuration import load_recorded
from jaxgen.diagnostics.cooldown import copy_checkpoint, schedule_of
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.durations import parse_duration


def extend(
    old_dir: str | os.PathLike, new_dir: str | os.PathLike, steps: int
) -> tuple[RunConfig, int]:
    """Makes the directory of a longer run, with the checkpoint that it continues from.

    Args:
      old_dir: of a run with a schedule that is constant between warm-up and decay.
      new_dir: of the longer run, which has no checkpoints yet.
      steps: its length; the decay has the same share of it.

    Returns:
      Its configuration, and the step that it continues from.

    Raises:
      ConfigError: another schedule, or a length that is no longer.
      CheckpointError: no checkpoint from before the decay is kept.
    """
    source, target = RunDirectory(old_dir), RunDirectory(new_dir)
    if not source.config_file.exists():
        raise CheckpointError(f"{source.path} is not a run directory: it has no config.gin.")
    old: RunConfig = load_recorded(source.config_file)
    schedule, warmup = schedule_of(old)
    total = old.train.total_steps(old.model.count().active)
    decay = parse_duration(schedule.decay).steps(
        steps_for_tokens=old.train.steps_for_tokens,
        active_parameters=old.model.count().active,
        total_steps=total,
    )
    if steps <= total:
        raise ConfigError(f"--steps={steps} makes a run of {total} steps no longer.")
    longer = dataclasses.replace(
        old.train,
        steps=steps,
        schedule=dataclasses.replace(schedule, warmup=warmup, decay=round(steps * decay / total)),
    )
    config = dataclasses.replace(old, name=f"{old.name}-{steps}", train=longer)
    with Checkpoints(source.checkpoints) as checkpoints:
        kept = checkpoints.steps()
    before_decay = [step for step in kept if step <= total - decay]
    if not before_decay:
        raise CheckpointError(
            f"{source.path} decays from step {total - decay} on, and keeps checkpoints of steps "
            f"{kept} only: none is from before. Train it with more execution.keep_checkpoints or "
            "without decay (warmup_stable_decay.decay=0)."
        )
    copy_checkpoint(source, before_decay[-1], target)
    return config, before_decay[-1]
