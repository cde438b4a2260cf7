"""A run made longer: a new run that continues from a checkpoint, moments and all.

As it was, where the rate of the old run was constant: the batch of a step depends on the step alone
and so does a constant rate, so the checkpoint is the one that the longer run itself would have
written; see `diagnostics.cooldown`. Or as a stage of its own, with other settings: longer rows
(Llama 3 went from 8,192 tokens to 131,072 in six stages), other shares, another rate.

A stage is a run and not a setting of one run, so that each has one length: what it is packed,
evaluated, counted and planned with. Its documents continue where those of the run before it ended.

A run that has not finished goes on as a stage too, such as with its optimizer's moments in another
precision, which are converted when it starts (`runs.state_precision`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import jax

from jaxgen.configuration import fingerprint, load_recorded
from jaxgen.diagnostics.cooldown import copy_checkpoint, schedule_of
from jaxgen.distributed import on_main
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.interchange.originals import hand_on_originals
from jaxgen.runs.checkpoints import flatten
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.durations import parse_duration
from jaxgen.training.optimizers.narrow_state import state_dtype, with_state_dtype
from jaxgen.training.program import build_program


def extend(
    old_dir: str | os.PathLike,
    new_dir: str | os.PathLike,
    steps: int,
    gin_files: Sequence[str] = (),
    bindings: Sequence[str] = (),
) -> tuple[RunConfig, int]:
    """Makes the directory of a longer run, with the checkpoint that it continues from.

    Args:
      old_dir: of a run; without other settings, of a finished one with a schedule that is constant
        between warm-up and decay.
      new_dir: of the longer run, which has no checkpoints yet.
      steps: its length, the steps before it included; a decay has the same share of it. With other
        settings it may be as long as the old run, if that has not finished.
      gin_files: further files of its configuration, after that of the old run.
      bindings: likewise; with either it is a stage, which continues from the last checkpoint.

    Returns:
      Its configuration, and the step that it continues from.

    Raises:
      ConfigError: a length that is no longer, or settings that cannot continue the old run.
      CheckpointError: no checkpoint to continue from is kept.
    """
    source, target = RunDirectory(old_dir), RunDirectory(new_dir)
    if not source.config_file.exists():
        raise CheckpointError(f"{source.path} is not a run directory: it has no config.gin.")
    old: RunConfig = load_recorded(source.config_file)
    total = old.train.total_steps(old.model.count().active)
    kept, is_stage = source.saved_steps(), bool(gin_files or bindings)
    continues = is_stage and steps == total and max(kept, default=0) < total
    if steps <= total and not continues:
        raise ConfigError(f"--steps={steps} makes a run of {total} steps no longer.")
    if is_stage:
        config = load_recorded(source.config_file, gin_files, bindings)
        name = f"{old.name}-{steps}" if config.name == old.name else config.name
        train = dataclasses.replace(config.train, steps=steps)
        config = dataclasses.replace(config, name=name, train=train)
        last = total
    else:
        config, last = _longer(old, total, steps)
    before = [step for step in kept if step <= last]
    if not kept:
        raise CheckpointError(f"{source.path} has no checkpoint; train it first.")
    if not before:
        raise CheckpointError(
            f"{source.path} decays from step {last} on, and keeps checkpoints of steps "
            f"{kept} only: none is from before. Train it with more execution.keep_checkpoints or "
            "without decay (warmup_stable_decay.decay=0)."
        )
    step = before[-1]
    _check_continues(old, config, step)
    told = {"directory": str(source.path), "fingerprint": fingerprint(old), "step": step}
    told["state_dtype"] = state_dtype(old.train.optimizer)

    def hand_on() -> None:
        copy_checkpoint(source, step, target)
        hand_on_originals(source.path, target.path)
        target.write_record({"extended_from": told})

    on_main(hand_on)
    return config, step


def _longer(old: RunConfig, total: int, steps: int) -> tuple[RunConfig, int]:
    """Returns a run as it was but longer, and the step that its decay began at."""
    schedule, warmup = schedule_of(old)
    decay = parse_duration(schedule.decay).steps(
        steps_for_tokens=old.train.steps_for_tokens,
        active_parameters=old.model.count().active,
        total_steps=total,
    )
    longer = dataclasses.replace(
        old.train,
        steps=steps,
        schedule=dataclasses.replace(schedule, warmup=warmup, decay=round(steps * decay / total)),
    )
    return dataclasses.replace(old, name=f"{old.name}-{steps}", train=longer), total - decay


def _check_continues(old: RunConfig, config: RunConfig, step: int) -> None:
    """Raises ConfigError if a run cannot go on from another's checkpoint of a step."""
    if config.mixture.codec.digest != old.mixture.codec.digest:
        raise ConfigError("a stage reads the tokens of the run before it: give it the same codec.")
    tokens, read = config.train.tokens_before(step), old.train.tokens_before(step)
    if tokens != read:
        raise ConfigError(
            f"up to step {step} the run has read {read:,} tokens, and one with train.length="
            f"{config.train.length} and train.batch_size={config.train.batch_size} would have read "
            f"{tokens:,}, so that its data would not go on where it was. Give as many tokens a "
            "batch as before, or train.batch_ramp (@stepped_ramp()) with the batches up to there."
        )
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    # The precision of moments alone may be another.
    trains = [
        dataclasses.replace(one.train, optimizer=with_state_dtype(one.train.optimizer, "float32"))
        for one in (old, config)
    ]
    states = [
        flatten(build_program(one.model, train, mesh, trains=False).abstract_state())
        for one, train in zip((old, config), trains, strict=True)
    ]
    theirs, ours = ({name: leaf.shape for name, leaf in state.items()} for state in states)
    if theirs != ours:
        name = min(n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n))
        raise ConfigError(
            f"the checkpoint has {name} of shape {theirs.get(name)} and the stage "
            f"{ours.get(name)}; give it the model and the optimizer of the run before it."
        )
