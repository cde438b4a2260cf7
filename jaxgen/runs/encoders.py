"""The frozen encoder of captions of a run that is trained on what the encoder made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxgen.errors import ConfigError
from jaxgen.evaluation.caption_states import states_of_rows
from jaxgen.models.adopting import adopted
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.warm_start import CONDITIONER, Parent, open_parents
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.program import build_program


def open_encoder(
    config: RunConfig, directory: RunDirectory, execution: ExecutionConfig | None = None
) -> tuple[Any, Parent]:
    """Returns the `CaptionEncoder` of a run with its parameters, and the run that they are of.

    Call under `jax.set_mesh`.

    Args:
      config: whose `initialize_parts` name the encoder's run.
      directory: the run's, beside which that one is; it need not be there.
      execution: gives the rules of the mesh.

    Raises:
      ConfigError: if the model has no encoder of captions alone, or no run is named.
      CheckpointError: if that run cannot be read.
    """
    told = getattr(config.model, CONDITIONER, None)
    if not isinstance(told, CaptionEncoderConfig) or not told.frozen:
        raise ConfigError(
            "captions are encoded before training by the frozen encoder of a model of diffusion: "
            "diffusion.conditioner = @caption_encoder(), caption_encoder.frozen = True."
        )
    named = (config.initialize_parts or {}).get(CONDITIONER)
    if named is None:
        raise ConfigError(
            "the encoder takes its parameters from a run: set run.initialize_parts = "
            "{'conditioner': '../RUN'}, seen from the run's own directory."
        )
    model: DiffusionConfig = config.model  # pyright: ignore[reportAssignmentType]
    model = dataclasses.replace(model, conditioner=dataclasses.replace(told, precomputed=False))
    data: Any = dataclasses.replace(config.mixture, encodings=None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    whole = dataclasses.replace(
        config,
        model=model,
        mixture=data,
        initialize_from=None,
        initialize_parts={CONDITIONER: named},
    )
    mesh = jax.sharding.get_mesh()
    program = build_program(
        whole.model, whole.train, mesh, execution, whole.objective, trains=False
    )
    parents = open_parents(whole, directory, program)
    assert parents is not None
    parent = parents.by_part[CONDITIONER]
    abstract = program.abstract_state_without_optimizer().model.conditioner
    return adopted(abstract, parent.read(program)), parent


def encoder_of_captions(
    config: RunConfig, directory: RunDirectory
) -> Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    """Returns what gives the states of any captions to a run that was trained on kept ones.

    The encoder is read when captions are first asked for; call that under `jax.set_mesh`.

    Raises (the function that is returned):
      ConfigError: if the encoder is not the one whose states the run was trained on.
    """
    opened: list[Any] = []

    def encode(tokens: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        if not opened:
            encoder, parent = open_encoder(config, directory)
            parts: Any = directory.read_record().get("initialized_parts", {})
            trained_on = parts.get(CONDITIONER, {}).get("parameters")
            if trained_on != parent.parameters_digest:
                raise ConfigError(
                    f"{directory.path} was trained on what an encoder with the parameters "
                    f"{trained_on} made of captions, and those in {parent.directory.path} are "
                    f"{parent.parameters_digest}; put that encoder's run back."
                )
            opened.append(encoder)
        codec = config.mixture.codec
        return states_of_rows(opened[0], codec, tokens, lengths)

    return encode
