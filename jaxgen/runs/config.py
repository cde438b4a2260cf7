"""The whole configuration of a run: what is trained, on what, how, where, and how it is judged."""

from __future__ import annotations

import dataclasses

from jaxgen.data.mixtures import Mixture
from jaxgen.errors import ConfigError
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.objectives.base import Objective
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.mesh import MeshConfig
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Complete: equal configurations make equal runs.

    Attributes:
      model: the transformer.
      mixture: the tasks and their weights.
      train: length, batches, optimiser.
      objective: what is minimised; held-out losses are its "loss" metric.
      mesh: sizes of the mesh axes.
      rules: which logical axis is split over which mesh axis.
      evaluation: what is scored, and when.
      name: what the run is called in tables and plots.
      version: told apart by a person; never "latest".
      initialize_from: the directory of a finished or imported run whose last parameters training
        begins with, with a fresh optimiser; a relative one is seen from the run's own directory, so
        "../base" is the run beside it. None: fresh parameters.
    """

    model: TransformerConfig
    mixture: Mixture
    train: TrainConfig
    objective: Objective = NextToken()
    mesh: MeshConfig = MeshConfig()
    rules: Rules = Rules()
    evaluation: EvaluationConfig = EvaluationConfig()
    name: str = "run"
    version: str = "1"
    initialize_from: str | None = None

    def __post_init__(self):
        if self.version == "latest" or not self.version:
            raise ConfigError("run.version must say which, such as '1'; 'latest' does not.")
        vocab_size = self.mixture.codec.vocab_size
        if self.model.vocab_size < vocab_size:
            raise ConfigError(
                f"model.vocab_size={self.model.vocab_size} cannot hold the codec's {vocab_size} "
                f"tokens; set it to {-(-vocab_size // 64) * 64}."
            )
        has_encoder = self.model.num_encoder_layers > 0
        if has_encoder and self.train.source_length is None:
            raise ConfigError(
                f"the model has {self.model.num_encoder_layers} encoder layers: set "
                "train.source_length, the tokens of a row that the encoder reads."
            )
        if not has_encoder and self.train.source_length is not None:
            raise ConfigError(
                f"train.source_length={self.train.source_length} is of models with an encoder; "
                "leave it out, or set model.num_encoder_layers."
            )
