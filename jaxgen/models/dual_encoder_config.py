"""The configuration of a contrastive pair: two towers, and the space that both reach."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import ModelCard, TransformerConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.pair_batch import PairBatch, pair_batch_spec

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.dual_encoder import DualEncoder
    from jaxgen.sharding.layout import Layout

Projection = Literal["linear", "affine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Two towers, projected into one space, whose inner products are the logits of a pair.

    Attributes:
      text: the text tower, a transformer without a head.
      vision: the vision tower, which must pool.
      embed_dim: width of the shared space.
      text_pooling: "end_token", what the caption's last token has read (CLIP), or "last_token", the
        row's, which reads the padding like the text (SigLIP).
      text_projection: "linear", a matrix; "affine", with a bias; None: the tower's width is the
        space's.
      image_projection: likewise.
      initial_scale: of the logits, learned as its logarithm.
      max_scale: what training leaves the scale at, if it would grow beyond; None: no bound.
      initial_bias: of the logits, learned; None: they have none. The sigmoid loss needs one.
      card: what was published of the model; no part of what it computes.
    """

    text: TransformerConfig
    vision: VisionConfig
    embed_dim: PositiveInt
    text_pooling: Literal["end_token", "last_token"] = "end_token"
    text_projection: Projection | None = "linear"
    image_projection: Projection | None = "linear"
    initial_scale: PositiveFloat = 1 / 0.07
    max_scale: PositiveFloat | None = 100.0
    initial_bias: Annotated[float, Domain(-1000, 1000)] | None = None
    card: ModelCard | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        check_domains(self, "dual_encoder")
        text, vision = self.text, self.vision.stack
        for name, projection, width in (
            ("text_projection", self.text_projection, text.embed_dim),
            ("image_projection", self.image_projection, vision.embed_dim),
        ):
            if projection is None and width != self.embed_dim:
                raise ConfigError(
                    f"dual_encoder.{name}=None needs a tower of the space's width: it has {width}, "
                    f"and dual_encoder.embed_dim={self.embed_dim}; set it to 'linear'."
                )
        if self.vision.pooling is None:
            raise ConfigError(
                "dual_encoder.vision has no pooling, and a pair compares one vector of an image; "
                "set vision.pooling, such as to 'attention'."
            )
        for name, stack in (("text", text), ("vision.stack", vision)):
            self._check_tower(name, stack)
        self._check_has_no_head(text)

    def _check_has_no_head(self, text: TransformerConfig) -> None:
        unlike = {
            "num_encoder_layers": text.num_encoder_layers,
            "encoder": text.encoder,
            "table_dim": text.table_dim,
            "mtp_depth": text.mtp_depth,
            "output_transform": text.output_transform,
            "pooler": text.pooler,
            "tie_embeddings=False": not text.tie_embeddings,
            "biases of 'logits'": text.has_bias("logits"),
        }
        if found := [name for name, value in unlike.items() if value]:
            raise ConfigError(
                f"dual_encoder.text is a stack over tokens, without encoder and head; leave out "
                f"{', '.join(found)}."
            )

    def _check_tower(self, name: str, stack: StackConfig) -> None:
        if stack.parametrization is not None:
            raise ConfigError(
                f"dual_encoder.{name}.parametrization has one width, and a pair has two; leave it "
                "out."
            )
        if stack.moe is not None:
            raise ConfigError(
                f"dual_encoder.{name}.moe has losses of its router, which no contrastive objective "
                "adds; leave it out."
            )

    def build(self, rngs: nnx.Rngs, layout: Layout) -> DualEncoder:
        """Returns the model."""
        from jaxgen.models.dual_encoder import DualEncoder

        return DualEncoder(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters; a pair is read by all of them."""
        from jaxgen.models.vision_counting import count_vision

        text = self.text.count()
        vision, positions = count_vision(self.vision)
        total = text.total + vision + self._projections + 1 + (self.initial_bias is not None)
        return ParameterCount(total=total, active=total, embedding=text.embedding + positions)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a caption of `length`, its image's share."""
        del source_length
        from jaxgen.models.vision_counting import stack_flops_per_token, vision_flops

        forward = length * stack_flops_per_token(self.text, length)
        forward += vision_flops(self.vision) + 2 * self._projections
        return round(3 * forward / length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> PairBatch:
        """Returns the shapes of the pairs that the model reads.

        Raises:
          ConfigError: for captions longer than the text tower's positions, or with a source.
        """
        if source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder; leave it out."
            )
        self.text.batch_spec(batch_size=batch_size, length=length)
        size = self.vision.image_size
        return pair_batch_spec(batch_size, length, (size, size, self.vision.channels))

    @property
    def vocab_size(self) -> int:
        """The text tower's."""
        return self.text.vocab_size

    @property
    def max_length(self) -> int | None:
        """The most tokens of a caption."""
        return self.text.max_length

    @property
    def _projections(self) -> int:
        """Parameters of the projections."""
        return sum(
            width * self.embed_dim + self.embed_dim * (kind == "affine")
            for kind, width in (
                (self.text_projection, self.text.embed_dim),
                (self.image_projection, self.vision.stack.embed_dim),
            )
            if kind is not None
        )

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use, by dropout."""
        return self.text.differs_in_training or self.vision.stack.differs_in_training
