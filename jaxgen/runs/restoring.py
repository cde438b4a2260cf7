"""A run's model as a checkpoint has it, on any mesh."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.configuration import load_recorded
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.models.base import language_model
from jaxgen.models.config import TransformerConfig
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.program import build_program
from jaxgen.training.state import trained, with_trained


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's configuration and its parameters at one step."""

    config: RunConfig
    directory: RunDirectory
    step: int
    model: Any

    @property
    def transformer(self) -> TransformerConfig:
        """The model's configuration, for what only a transformer can do, such as write text.

        Raises:
          ConfigError: if the run is of another model.
        """
        inner = language_model(self.config.model)
        if not isinstance(inner, TransformerConfig):
            raise ConfigError(
                f"{self.directory.path} is a run of {type(self.config.model).__name__}; only a run "
                "of a transformer (run.model = @model()) writes text."
            )
        return inner

    @property
    def language_model(self) -> Any:
        """What reads and writes text: the model, or the inner one of a policy."""
        return language_model(self.model)


def read_record(run_dir: str | os.PathLike) -> tuple[RunDirectory, RunConfig]:
    """Returns a run's directory and its configuration; CheckpointError if there is no run."""
    directory = RunDirectory(run_dir)
    if not directory.config_file.exists():
        raise CheckpointError(
            f"{directory.path} is not a run directory: it has no {directory.config_file.name}; "
            "name the --run_dir of a `jaxgen train`."
        )
    return directory, load_recorded(directory.config_file)


def restore(
    run_dir: str | os.PathLike,
    mesh: jax.sharding.Mesh,
    step: int | None = None,
    execution: ExecutionConfig | None = None,
    ema: bool | None = False,
    average: int = 1,
) -> Restored:
    """Reads a run's configuration and the model of a checkpoint onto a mesh.

    Call under `jax.set_mesh(mesh)`.

    Args:
      run_dir: the run's directory.
      mesh: any mesh that the model fits; not necessarily the one it was trained on.
      step: the checkpoint's; the newest by default.
      execution: gives the rules of the mesh; `ExecutionConfig()` by default.
      ema: whether to take the averages of the parameters; None: as the run's evaluation does.
      average: of how many checkpoints, up to that of `step`, the model is the mean (1706.03762,
        section 6.1).

    Raises:
      CheckpointError: if there is no run, no checkpoint that can be trusted, or too few to average.
      ConfigError: if there are no averages, and they are asked for.
    """
    directory, config = read_record(run_dir)
    program = build_program(
        config.model, config.train, mesh, execution, config.objective, trains=False
    )
    ema = config.evaluation.ema if ema is None else ema
    abstract = program.abstract_state_without_optimizer()
    with Checkpoints(directory.checkpoints) as checkpoints:

        def model_of(step: int | None) -> tuple[Any, int]:
            state, record = checkpoints.restore(abstract, step)
            return (state.averaged_model if ema else state.model), record["step"]

        model, step = model_of(step)
        earlier = [one for one in checkpoints.steps() if one < step][::-1][: average - 1]
        if 1 + len(earlier) < average:
            raise CheckpointError(
                f"{directory.path} has {1 + len(earlier)} checkpoints up to step {step}, and "
                f"{average} are to be averaged; train with execution.keep_checkpoints={average} "
                "or more."
            )
        total = trained(model)
        for one in earlier:
            total = jax.tree.map(jnp.add, total, trained(model_of(one)[0]))
    if earlier:
        model = with_trained(model, jax.tree.map(lambda x: x / average, total))
    return Restored(config, directory, step, model)
