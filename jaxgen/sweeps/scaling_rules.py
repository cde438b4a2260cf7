"""Scaling rules: the shape, tokens, batch and learning rate of a model from its size alone.

    SHAPE = ModelShape(head_dim=16, mlp_ratio=3)
    SHAPE.change("2x64", num_layers=2, width=64)        # a rung of those sizes
    rules = ScalingRules(base, SHAPE, TokensPerParameter(20), StepLaw())
    rules.rung(depth=4)                                 # a rung with tokens, batch and rate as well

    shape:       width = aspect_ratio * depth in whole heads; mlp = ratio * width
    budget:      TokensPerParameter (20 is Chinchilla's, 2203.15556) or TrainingFlops
    batch, rate: StepLaw (2503.04715), DeepSeekLaw (2401.02954) or FixedHyperparameters

In the laws N is parameters without the embedding tables, D tokens, C training FLOPs without those
of the logits (DeepSeek's M = 72 L d^2 + 12 L d s), and the batch is in tokens. They were fitted to
models and budgets far above what a laptop trains, with AdamW and large vocabularies: elsewhere they
are a first guess.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps.grid import Change, changed


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """The shape of a model: heads and feed-forward from its width, the width from its depth.

    Attributes:
      aspect_ratio: width for each layer, where only the depth is given.
      head_dim: width of a head; a width that is not a multiple has wider heads, never narrower.
      mlp_ratio: of the feed-forward's width to the model's.
      multiple: the feed-forward's width is rounded to one of these.
      heads_per_group: query heads that share a key head (GQA); the number of heads is a multiple.
    """

    aspect_ratio: PositiveFloat = 64.0
    head_dim: PositiveInt = 64
    mlp_ratio: PositiveFloat = 4.0
    multiple: PositiveInt = 8
    heads_per_group: PositiveInt = 1

    def __post_init__(self):
        check_domains(self, "shape")

    def fields(self, depth: int, width: int | None = None) -> dict[str, Any]:
        """Returns the model's fields at a depth.

        Args:
          depth: layers.
          width: of the model; aspect_ratio * depth, in whole heads, by default.
        """
        group = self.head_dim * self.heads_per_group
        if width is None:
            width = group * max(1, _nearest(self.aspect_ratio * depth / group))
        heads = self.heads_per_group * max(1, width // group)
        return {
            "num_layers": depth,
            "embed_dim": width,
            "num_heads": heads,
            "num_kv_heads": None if self.heads_per_group == 1 else heads // self.heads_per_group,
            "head_dim": None,
            "mlp_dim": self.multiple * max(1, _nearest(self.mlp_ratio * width / self.multiple)),
        }

    def change(self, label: str, depth: int, width: int | None = None, **more: Any) -> Change:
        """Returns a rung of a depth; `more` are other fields of the model."""
        fields = self.fields(depth, width) | more
        return Change(label, {f"model.{name}": value for name, value in fields.items()})


class TokenBudget(Protocol):
    """A rule for how many tokens a model is trained on."""

    def tokens(self, model: ModelConfig, length: int) -> float:
        """Returns the tokens of a model trained on rows of `length`."""
        ...


@dataclasses.dataclass(frozen=True)
class TokensPerParameter:
    """A budget of so many tokens for each active parameter, with or without embedding tables."""

    ratio: PositiveFloat = 20.0
    embeddings: bool = True

    def __post_init__(self):
        check_domains(self, "TokensPerParameter")

    def tokens(self, model: ModelConfig, length: int) -> float:
        del length
        count = model.count()
        return self.ratio * (count.active - (0 if self.embeddings else count.embedding))


@dataclasses.dataclass(frozen=True)
class TrainingFlops:
    """A budget of exact training FLOPs (`training_flops_per_token`), the same for every size."""

    flops: PositiveFloat

    def __post_init__(self):
        check_domains(self, "TrainingFlops")

    def tokens(self, model: ModelConfig, length: int) -> float:
        return self.flops / model.flops(length)


@dataclasses.dataclass(frozen=True)
class Size:
    """The inputs of a law of batch and rate: N and C without the vocabulary, and D."""

    parameters: float
    tokens: float
    flops: float


class HyperparameterLaw(Protocol):
    """A rule for learning rate and batch."""

    def rate(self, size: Size) -> float:
        """Returns the peak learning rate."""
        ...

    def batch_tokens(self, size: Size) -> float:
        """Returns the tokens of a batch."""
        ...


@dataclasses.dataclass(frozen=True)
class StepLaw:
    """The law rate = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens (2503.04715)."""

    def rate(self, size: Size) -> float:
        return 1.79 * size.parameters**-0.713 * size.tokens**0.307

    def batch_tokens(self, size: Size) -> float:
        return 0.58 * size.tokens**0.571


@dataclasses.dataclass(frozen=True)
class DeepSeekLaw:
    """The law rate = 0.3118 C^-0.1250, batch = 0.2920 C^0.3271 tokens (2401.02954, 3.1)."""

    def rate(self, size: Size) -> float:
        return 0.3118 * size.flops**-0.1250

    def batch_tokens(self, size: Size) -> float:
        return 0.2920 * size.flops**0.3271


@dataclasses.dataclass(frozen=True)
class FixedHyperparameters:
    """The same rate and batch for every size, as suits a model with a parametrisation."""

    learning_rate: PositiveFloat
    tokens: PositiveFloat

    def __post_init__(self):
        check_domains(self, "FixedHyperparameters")

    def rate(self, size: Size) -> float:
        del size
        return self.learning_rate

    def batch_tokens(self, size: Size) -> float:
        del size
        return self.tokens


@dataclasses.dataclass(frozen=True)
class ScalingRules:
    """A base run and the rules by which its other sizes follow from their depth.

    Attributes:
      base: what all sizes share.
      shape: gives the widths of a depth.
      budget: gives the tokens.
      law: gives batch and learning rate.
      batch_multiple: the rows of a batch are a multiple of this, such as execution.accumulation
        times the devices that split a batch.
    """

    base: RunConfig
    shape: ModelShape
    budget: TokenBudget
    law: HyperparameterLaw
    batch_multiple: PositiveInt = 1

    def __post_init__(self):
        check_domains(self, "ScalingRules")

    def rung(self, depth: int) -> Change:
        """Returns the rung of a depth.

        Its budget is met from above by at most one step, as the batch is whole rows.

        Raises:
          ConfigError: a ramp of the batch, which no rule scales.
        """
        train = self.base.train
        schedule: Any = train.schedule
        if train.batch_ramp is not None:
            raise ConfigError(
                f"train.batch_ramp={train.batch_ramp} belongs to one batch size, and a ladder's "
                "rungs have several; set it to None."
            )
        rung = self.shape.change("", depth)
        model: Any = changed(self.base, rung, self.base.name).model
        size = self.size(model)
        rows = self.law.batch_tokens(size) / train.length / self.batch_multiple
        batch_size = self.batch_multiple * max(1, _nearest(rows))
        values = {
            "train.steps": max(1, math.ceil(size.tokens / (batch_size * train.length))),
            "train.batch_size": batch_size,
            "train.schedule": dataclasses.replace(schedule, peak=self.law.rate(size)),
        }
        return Change(f"d{depth}-w{model.embed_dim}", dict(rung.values) | values)

    def size(self, model: Any) -> Size:
        """Returns N, D and C of a transformer under the budget."""
        length = self.base.train.length
        tokens = self.budget.tokens(model, length)
        count = model.count()
        logits = 6 * model.embed_dim * model.vocab_size
        flops = tokens * (model.flops(length) - logits)
        return Size(count.active - count.embedding, tokens, flops)


def _nearest(value: float) -> int:
    """Rounds a half upwards; Python's own rounding would make 2.5 and 3.5 heads 2 and 4."""
    return math.floor(value + 0.5)
