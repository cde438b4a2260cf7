"""Many budgets from one long run: cooldowns that branch off its checkpoints (2405.18392).

    long = trunk(base, totals=[1000, 2000, 4000])
    runs = [branch(long, total) for total in (1000, 2000, 4000)]
    Sweep(..., [long, *runs], branches={run.name: long.name for run in runs})

A sweep keeps the checkpoints that the branches need; by hand,
`run(long, directory, keep_branching_points(execution, runs))` does.

The trunk warms up and keeps its rate (`WarmupStableDecay` with decay 0); each branch continues from
one of the trunk's checkpoints and decays. A branch is a run of its own, whose configuration has its
warm-up, peak and decay. Its first steps are those of the trunk: the same batches, because a batch
is a function of the step, at the same rate. So the trunk's checkpoint is the one that the branch
itself would have written, and `branch_off` puts it where the branch looks for its own. Training the
branch from its beginning gives the same result at a higher cost.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxgen.configuration import load_recorded, to_gin
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.durations import DurationLike, parse_duration
from jaxgen.training.execution import ExecutionConfig


@runtime_checkable
class CooldownSchedule(Protocol):
    """A schedule that is constant between its warm-up and a decay at the end of the run."""

    @property
    def warmup(self) -> DurationLike: ...

    @property
    def decay(self) -> DurationLike: ...


def trunk(base: RunConfig, totals: Sequence[int], decay: float = 0.2) -> RunConfig:
    """Returns the long run, as far as the last branch needs it.

    Args:
      base: a run with a `CooldownSchedule`.
      totals: the lengths of the branches in steps, their cooldowns included.
      decay: the cooldown's share of a branch, 0.1 to 0.2 in the paper.

    Raises:
      ConfigError: another schedule, or a branch that would leave before the warm-up ends.
    """
    schedule, warmup = schedule_of(base)
    points = [branching_point(total, decay) for total in totals]
    if min(points) < warmup:
        raise ConfigError(
            f"a branch of {min(totals)} steps leaves at step {min(points)}, before the warm-up of "
            f"{warmup} ends; shorten train.schedule.warmup or the branches' decay."
        )
    train = dataclasses.replace(
        base.train,
        steps=max(points),
        schedule=dataclasses.replace(schedule, warmup=warmup, decay=0),
    )
    return dataclasses.replace(base, name=f"{base.name}-trunk", train=train)


def keep_branching_points(
    execution: ExecutionConfig, branches: Sequence[RunConfig]
) -> ExecutionConfig:
    """Returns an execution of a trunk that keeps the checkpoints which its branches leave from."""
    points = [_leaves_at(one) for one in branches]
    every = math.gcd(*points)
    return dataclasses.replace(
        execution, checkpoint_every=every, keep_checkpoints=max(points) // every
    )


def branch(trunk_config: RunConfig, total: int, decay: float = 0.2) -> RunConfig:
    """Returns the run of `total` steps whose last share `decay` cools down, else as the trunk.

    Raises:
      ConfigError: another schedule.
    """
    schedule, warmup = schedule_of(trunk_config)
    cooling = total - branching_point(total, decay)
    train = dataclasses.replace(
        trunk_config.train,
        steps=total,
        schedule=dataclasses.replace(schedule, warmup=warmup, decay=cooling),
    )
    name = f"{trunk_config.name.removesuffix('-trunk')}-{total}"
    return dataclasses.replace(trunk_config, name=name, train=train)


def branching_point(total: int, decay: float) -> int:
    """Returns the step after which a run of `total` steps cools down."""
    if not 0 < decay < 1:
        raise ConfigError(f"decay={decay} is the cooldown's share of the run, in (0, 1).")
    return total - max(1, round(decay * total))


def branch_off(trunk_dir: str | os.PathLike, config: RunConfig, run_dir: str | os.PathLike) -> int:
    """Copies the trunk's checkpoint to where `run(config, run_dir)` will continue from it.

    A directory that has checkpoints is left as it is.

    Args:
      trunk_dir: the trunk's run directory.
      config: made by `branch`.
      run_dir: of the branch.

    Returns:
      The step that the branch continues from.

    Raises:
      CheckpointError: no such checkpoint, or a trunk whose first steps are not the branch's.
    """
    source, target = RunDirectory(trunk_dir), RunDirectory(run_dir)
    step = _leaves_at(config)
    if target.checkpoints.exists():
        return step
    if not source.config_file.exists():
        raise CheckpointError(f"{source.path} is not a run directory: it has no config.gin.")
    recorded = load_recorded(source.config_file)
    if to_gin(_until(recorded)) != to_gin(_until(config)):
        raise CheckpointError(
            f"{source.path} differs from the branch {config.name!r} in more than its length and "
            "cooldown, so its checkpoints are not the branch's; make the branch with "
            "`branch(trunk, total)` from its config.gin."
        )
    steps = source.saved_steps()
    if step not in steps:
        raise CheckpointError(
            f"{source.path} has no checkpoint of step {step}, only of {steps}; train the trunk "
            "with `keep_branching_points(execution, branches)`, as a sweep does."
        )
    copy_checkpoint(source, step, target)
    return step


def copy_checkpoint(source: RunDirectory, step: int, target: RunDirectory) -> None:
    """Copies a checkpoint into a run's directory that has none."""
    target.prepare()
    with target.lock():
        if target.checkpoints.exists():
            return
        # Renamed into place, so that a copy that was cut short is never taken for a checkpoint.
        unfinished = target.path / f".checkpoints.{os.getpid()}.tmp"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source.checkpoints / str(step), unfinished / str(step))
        os.replace(unfinished, target.checkpoints)


def _leaves_at(config: RunConfig) -> int:
    """Returns the step of the checkpoint from which a run made by `branch` continues."""
    schedule, _ = schedule_of(config)
    assert isinstance(config.train.steps, int) and isinstance(schedule.decay, int)
    return config.train.steps - schedule.decay


def schedule_of(config: RunConfig) -> tuple[Any, int]:
    """Returns the schedule and its warm-up in steps."""
    schedule, train = config.train.schedule, config.train
    if not isinstance(schedule, CooldownSchedule):
        raise ConfigError(
            f"train.schedule={type(schedule).__name__} has no part at a constant rate to "
            "branch off; use @warmup_stable_decay()."
        )
    active = config.model.count().active
    warmup = parse_duration(schedule.warmup).steps(
        steps_for_tokens=train.steps_for_tokens,
        active_parameters=active,
        total_steps=train.total_steps(active),
    )
    return schedule, warmup


def _until(config: RunConfig) -> RunConfig:
    """Returns what a trunk and its branches share."""
    schedule, warmup = schedule_of(config)
    train = dataclasses.replace(
        config.train,
        steps=1,
        schedule=dataclasses.replace(schedule, warmup=warmup, decay=0),
    )
    return dataclasses.replace(config, name="", train=train)
