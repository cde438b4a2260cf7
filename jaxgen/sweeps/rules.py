"""Rules that turn a size into a rung: shapes, budgets, batch and learning rate.

A family is a base run and rules; the one size knob is depth. `rungs` gives what `climb` climbs.

    Shape:       width = aspect_ratio * depth in whole heads of a fixed width; mlp = ratio * width
    budget:      TokensPerParameter (20 is Chinchilla's, 2203.15556) or TrainingFlops
    batch, rate: StepLaw (2503.04715), DeepSeekLaw (2401.02954) or Fixed

In the laws N is parameters without the embedding tables, D tokens, C training FLOPs without those
of the logits (DeepSeek's M = 72 L d^2 + 12 L d s), and the batch is in tokens. They were fitted to
models and budgets far above what a laptop trains, with AdamW and large vocabularies: elsewhere they
are a beginning, not a truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from jaxgen.errors import ConfigError
from jaxgen.models.config import TransformerConfig
from jaxgen.models.counting import count_parameters, training_flops_per_token
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps.ladder import Rung


@dataclasses.dataclass(frozen=True)
class Shape:
    """Width and the rest from depth.

    Attributes:
      aspect_ratio: width for each layer.
      head_dim: width of every head; the model's width is a whole number of heads, at least one.
      mlp_ratio: of the feed-forward's width to the model's.
      multiple: the feed-forward's width is rounded to one of these.
      heads_per_group: query heads that share a key head (GQA); the number of heads is a multiple.
    """

    aspect_ratio: float = 64.0
    head_dim: int = 64
    mlp_ratio: float = 4.0
    multiple: int = 8
    heads_per_group: int = 1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value <= 0:
                raise ConfigError(f"shape.{name}={value} must be positive.")

    def fields(self, depth: int) -> dict[str, int]:
        """The model's fields at a depth."""
        group = self.head_dim * self.heads_per_group
        width = group * max(1, _nearest(self.aspect_ratio * depth / group))
        heads = width // self.head_dim
        return {
            "num_layers": depth,
            "embed_dim": width,
            "num_heads": heads,
            "num_kv_heads": heads // self.heads_per_group,
            "head_dim": self.head_dim,
            "mlp_dim": self.multiple * max(1, _nearest(self.mlp_ratio * width / self.multiple)),
        }


@dataclasses.dataclass(frozen=True)
class TokensPerParameter:
    """So many tokens for each active parameter; without embedding tables, if so asked."""

    ratio: float = 20.0
    embeddings: bool = True

    def tokens(self, model: TransformerConfig, length: int) -> float:
        """The budget of a model trained on rows of `length`."""
        del length
        count = count_parameters(model)
        return self.ratio * (count.active - (0 if self.embeddings else count.embedding))


@dataclasses.dataclass(frozen=True)
class TrainingFlops:
    """So many exact training FLOPs (`training_flops_per_token`), the same for every size."""

    flops: float

    def tokens(self, model: TransformerConfig, length: int) -> float:
        """The budget of a model trained on rows of `length`."""
        return self.flops / training_flops_per_token(model, length)


@dataclasses.dataclass(frozen=True)
class Size:
    """What the laws know of a rung: N and C without the vocabulary, and D."""

    parameters: float
    tokens: float
    flops: float


@dataclasses.dataclass(frozen=True)
class StepLaw:
    """rate = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens (2503.04715)."""

    def rate(self, size: Size) -> float:
        """The peak learning rate."""
        return 1.79 * size.parameters**-0.713 * size.tokens**0.307

    def batch_tokens(self, size: Size) -> float:
        """Tokens of a batch."""
        return 0.58 * size.tokens**0.571


@dataclasses.dataclass(frozen=True)
class DeepSeekLaw:
    """rate = 0.3118 C^-0.1250, batch = 0.2920 C^0.3271 tokens (2401.02954, 3.1)."""

    def rate(self, size: Size) -> float:
        """The peak learning rate."""
        return 0.3118 * size.flops**-0.1250

    def batch_tokens(self, size: Size) -> float:
        """Tokens of a batch."""
        return 0.2920 * size.flops**0.3271


@dataclasses.dataclass(frozen=True)
class Fixed:
    """The same for every size, as suits a model with a parametrisation."""

    learning_rate: float
    tokens: float

    def rate(self, size: Size) -> float:
        """The peak learning rate."""
        del size
        return self.learning_rate

    def batch_tokens(self, size: Size) -> float:
        """Tokens of a batch."""
        del size
        return self.tokens


Budget = TokensPerParameter | TrainingFlops
Law = StepLaw | DeepSeekLaw | Fixed


@dataclasses.dataclass(frozen=True)
class Family:
    """A base run and the rules of its sizes.

    Attributes:
      base: what all sizes share.
      shape: widths from depth.
      budget: tokens.
      law: batch and learning rate.
    """

    base: RunConfig
    shape: Shape
    budget: Budget
    law: Law

    def rung(self, depth: int) -> Rung:
        """The size of that depth.

        Its budget is met from above by at most one step, as the batch is whole rows that divide
        into the base's micro-batches (train.accumulation).

        Raises:
          ConfigError: a ramp of the batch, which no rule scales.
        """
        train = self.base.train
        if train.batch_ramp is not None:
            raise ConfigError(
                f"train.batch_ramp={train.batch_ramp} belongs to one batch size, and a ladder's "
                "rungs have several; set it to None."
            )
        fields = self.shape.fields(depth)
        model = dataclasses.replace(self.base.model, **fields)
        size = self.size(model)
        rows = self.law.batch_tokens(size) / train.length / train.accumulation
        batch_size = train.accumulation * max(1, _nearest(rows))
        steps = max(1, math.ceil(size.tokens / (batch_size * train.length)))
        schedule = dataclasses.replace(train.schedule, peak=self.law.rate(size))
        return Rung(
            f"d{depth}-w{model.embed_dim}",
            fields,
            {"steps": steps, "batch_size": batch_size, "schedule": schedule},
        )

    def size(self, model: TransformerConfig) -> Size:
        """N, D and C of a model under the budget."""
        length = self.base.train.length
        tokens = self.budget.tokens(model, length)
        count = count_parameters(model)
        logits = 6 * model.embed_dim * model.vocab_size
        flops = tokens * (training_flops_per_token(model, length) - logits)
        return Size(count.active - count.embedding, tokens, flops)


def rungs(family: Family, depths: Sequence[int]) -> list[Rung]:
    """A rung of every depth, in their order."""
    return [family.rung(depth) for depth in depths]


def _nearest(value: float) -> int:
    """Rounded, a half upwards: Python's own would make 2.5 and 3.5 heads 2 and 4."""
    return math.floor(value + 0.5)
