"""A run that begins with the parameters of another: fine-tuning, of a run or of an import."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax

from jaxgen.configuration import difference, load_recorded
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.interchange.originals import hand_on_originals
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.program import Program
from jaxgen.training.state import TrainState

NEEDED = {"name": str, "fingerprint": str, "codec_digest": str, "finished": bool,
          "steps": int, "flops": float}  # fmt: skip
"""The shape of what is read of a parent's run.json."""


def parent_of(config: RunConfig, directory: RunDirectory) -> RunDirectory | None:
    """Returns the run whose parameters a run begins with; None if it has fresh ones."""
    if config.initialize_from is None:
        return None
    path = os.path.expanduser(config.initialize_from)
    return RunDirectory(os.path.normpath(directory.path / path))


@dataclasses.dataclass(frozen=True)
class Parent:
    """A run whose last parameters another begins with.

    Attributes:
      directory: where it is.
      config: its own.
      record: what run.json says of it.
    """

    directory: RunDirectory
    config: RunConfig
    record: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Returns its entry in the run.json of the run that begins here."""
        # Of an import that was not trained here, steps and FLOPs are only a plan.
        of_training = ("steps", "flops") if self.record["finished"] else ("imported_from",)
        told = {name: self.record[name] for name in ("name", "fingerprint", *of_training)}
        return {"directory": str(self.directory.path)} | told

    def hand_on(self, directory: RunDirectory) -> None:
        """Copies the files that an import was given, for an export of the run that begins here."""
        hand_on_originals(self.directory.path, directory.path)

    def initial_state(self, program: Program) -> TrainState:
        """Returns the state before the first step: the parent's parameters, all else fresh.

        Call under `jax.set_mesh(program.mesh)`.

        Raises:
          CheckpointError: if the parent's checkpoint cannot be trusted.
        """
        theirs = dataclasses.replace(program, model=self.config.model, train=self.config.train)
        with Checkpoints(self.directory.checkpoints) as checkpoints:
            state, _ = checkpoints.restore(theirs.abstract_state_without_optimizer())
        leaves = jax.tree.leaves(state.model)
        # The structure is the child's: settings such as dropout are its own.
        model = jax.tree.unflatten(jax.tree.structure(program.abstract_state().model), leaves)
        return program.state_with(model)


def open_parent(config: RunConfig, directory: RunDirectory, program: Program) -> Parent | None:
    """Returns the parent of a run, checked to fit it; None if it has fresh parameters.

    Raises:
      CheckpointError: there is no such run, or it has not finished.
      ConfigError: its parameters or tokens are others than this run's.
    """
    source = parent_of(config, directory)
    if source is None:
        return None
    subject = f"initialize_from={config.initialize_from!r}"
    if not source.config_file.exists() or not source.run_file.exists():
        raise CheckpointError(
            f"{subject} of the run {config.name!r} is {source.path}, which is no run directory; a "
            "relative one is seen from the run's own directory, so ../NAME is a run beside it."
        )
    record = source.read_whole(NEEDED, f"{subject}: ")
    if not record.get("finished") and "imported_from" not in record:
        raise CheckpointError(
            f"{subject}: the run in {source.path} has not finished; finish it first."
        )
    parent: RunConfig = load_recorded(source.config_file)
    if record["codec_digest"] != config.mixture.codec.digest:
        raise ConfigError(
            f"{subject}: {source.path} was trained on tokens of {record['codec_digest']}, and this "
            f"run's are of {config.mixture.codec.digest}; give its tasks that codec."
        )
    _check_shapes(subject, parent, config, program)
    return Parent(source, parent, record)


def _check_shapes(subject: str, parent: RunConfig, config: RunConfig, program: Program) -> None:
    def shapes(model_config: Any) -> dict[str, tuple[int, ...]]:
        model = dataclasses.replace(program, model=model_config).abstract_state().model
        return {name: array.shape for name, array in flatten(model).items()}

    theirs, ours = shapes(parent.model), shapes(config.model)
    different = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    if different:
        name = different[0]
        raise ConfigError(
            f"{subject}: parameters differ, such as {name} of shape {theirs.get(name)} there and "
            f"{ours.get(name)} here ({'; '.join(difference(parent.model, config.model)[:5])}). "
            "Give the run the model of the other."
        )
