"""The configurations of what reads prompts for a denoiser."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxgen.domains import PositiveInt, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.conditioner_protocol import ConditionerConfig
from jaxgen.models.dual_encoder_config import DualEncoderConfig

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.conditioners import (
        CaptionEncoder,
        ClassLabels,
        ClipConditioner,
        Together,
    )
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class ClassLabelsConfig:
    """A vector for each class, learned, and one for none.

    Attributes:
      classes: how many.
      embed_dim: width of a vector.
      drop: how often a class is dropped in training.
    """

    classes: PositiveInt
    embed_dim: PositiveInt
    drop: ProperFraction = 0.1

    context_dim = None
    max_length = 1

    def __post_init__(self):
        check_domains(self, "class_labels")

    @property
    def pooled_dim(self) -> int:
        """Width of a vector."""
        return self.embed_dim

    @property
    def drops(self) -> float:
        """How often a class is dropped."""
        return self.drop

    def build(self, rngs: nnx.Rngs, layout: Layout) -> ClassLabels:
        """Returns the module."""
        from jaxgen.models.diffusion.conditioners import ClassLabels

        return ClassLabels(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the table's numbers."""
        total = (self.classes + 1) * self.embed_dim
        return ParameterCount(total=total, active=self.embed_dim, embedding=total)

    def context_length(self, length: int) -> int:
        """Returns 0: there is no sequence."""
        del length
        return 0

    def row_flops(self, length: int) -> int:
        """Returns 0: a row of a table is looked up."""
        del length
        return 0


@dataclasses.dataclass(frozen=True)
class CaptionEncoderConfig:
    """A transformer without a head that reads captions, such as T5's encoder or CLIP's text tower.

    Attributes:
      model: reads the caption; its hidden states are the sequence.
      frozen: whether it stays as it begins (`run.initialize_parts = {'conditioner': RUN}`).
      precomputed: whether the data have what it makes of captions (`image_text_pairs.encodings`),
        by `jaxgen prepare --captions`, and the model is without it.
      pooled: whether the hidden state of the caption's last token is told too.
      masks_padding: whether nothing attends to what follows a caption; else its padding is read
        like text (Stable Diffusion).
      drop: how often a caption is replaced by an empty one in training.
    """

    model: TransformerConfig
    frozen: bool = True
    precomputed: bool = False
    pooled: bool = False
    masks_padding: bool = True
    drop: ProperFraction = 0.1

    def __post_init__(self):
        check_domains(self, "caption_encoder")
        if self.model.encoder_stack is not None:
            raise ConfigError(
                "caption_encoder.model has an encoder and a decoder, and a caption is read by one "
                "stack: leave out num_encoder_layers, and give its layers the mask "
                "(@bidirectional(),) for an encoder's."
            )
        if self.precomputed and not self.frozen:
            raise ConfigError(
                "caption_encoder.precomputed=True has nothing to train; set caption_encoder.frozen "
                "to True, or precomputed to False."
            )

    @property
    def context_dim(self) -> int:
        """Width of the hidden states."""
        return self.model.embed_dim

    @property
    def pooled_dim(self) -> int | None:
        """The same, where the last token's is told."""
        return self.model.embed_dim if self.pooled else None

    @property
    def drops(self) -> float:
        """How often a caption is dropped."""
        return self.drop

    @property
    def max_length(self) -> int | None:
        """The model's."""
        return self.model.max_length

    def build(self, rngs: nnx.Rngs, layout: Layout) -> CaptionEncoder:
        """Returns the module."""
        from jaxgen.models.diffusion.conditioners import CaptionEncoder

        return CaptionEncoder(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the model's numbers, none where its states are precomputed."""
        if self.precomputed:
            return ParameterCount(total=0, active=0, embedding=0)
        return self.model.count()

    def context_length(self, length: int) -> int:
        """Returns the caption's length."""
        return length

    def row_flops(self, length: int) -> int:
        """Returns those of training, of a forward pass where it is frozen, or 0 where it is not."""
        if self.precomputed:
            return 0
        from jaxgen.models.vision_counting import stack_flops_per_token

        forward = length * stack_flops_per_token(self.model, length)
        return forward if self.frozen else 3 * forward


@dataclasses.dataclass(frozen=True)
class ClipConditionerConfig:
    """A frozen contrastive pair, by which texts or pictures are told (unCLIP, 2204.06125).

    Vectors are scaled to the length sqrt(width), so that their numbers are of size 1.

    Attributes:
      pair: reads both.
      reads: "texts": the caption's vector, and its hidden states as the sequence; "images": the
        picture's vector, in use that of a prior.
      drop: how often a vector is replaced by zeros, or a caption by an empty one, in training.
    """

    pair: DualEncoderConfig
    reads: Literal["texts", "images"] = "images"
    drop: ProperFraction = 0.1

    def __post_init__(self):
        check_domains(self, "clip_conditioner")

    @property
    def context_dim(self) -> int | None:
        """Width of the caption's states; a picture has none."""
        return self.pair.text.embed_dim if self.reads == "texts" else None

    @property
    def pooled_dim(self) -> int:
        """Width of the shared space."""
        return self.pair.embed_dim

    @property
    def drops(self) -> float:
        """How often a prompt is dropped."""
        return self.drop

    @property
    def max_length(self) -> int | None:
        """The text tower's."""
        return self.pair.max_length

    def build(self, rngs: nnx.Rngs, layout: Layout) -> ClipConditioner:
        """Returns the module."""
        from jaxgen.models.diffusion.conditioners import ClipConditioner

        return ClipConditioner(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the pair's numbers."""
        return self.pair.count()

    def context_length(self, length: int) -> int:
        """Returns the caption's length; a picture has no sequence."""
        return length if self.reads == "texts" else 0

    def row_flops(self, length: int) -> int:
        """Returns those of a forward pass of one tower."""
        from jaxgen.models.vision_counting import stack_flops_per_token, vision_flops

        if self.reads == "texts":
            return length * stack_flops_per_token(self.pair.text, length)
        return vision_flops(self.pair.vision)


@dataclasses.dataclass(frozen=True)
class TogetherConfig:
    """Several conditioners, each dropped by itself.

    Attributes:
      parts: those whose sequences have one width follow one another; vectors are laid side by side.
    """

    parts: tuple[ConditionerConfig, ...]

    def __post_init__(self):
        if any(isinstance(one.drops, tuple) for one in self.parts):
            raise ConfigError("together.parts has one of several parts itself; name these here.")
        if sum(getattr(one, "precomputed", False) for one in self.parts) > 1:
            raise ConfigError(
                "together.parts has two encoders with precomputed=True, and the data give the "
                "states of one: leave the other in the model."
            )
        widths = {one.context_dim for one in self.parts} - {None}
        if len(self.parts) < 2 or len(widths) > 1:
            raise ConfigError(
                f"together.parts are {len(self.parts)}, with sequences of widths "
                f"{sorted(w for w in widths if w)}: give two or more, of one width."
            )

    @property
    def context_dim(self) -> int | None:
        """Width of the sequences."""
        return next((one.context_dim for one in self.parts if one.context_dim), None)

    @property
    def pooled_dim(self) -> int | None:
        """Sum of the vectors' widths."""
        return sum(one.pooled_dim or 0 for one in self.parts) or None

    @property
    def drops(self) -> tuple[float, ...]:
        """Those of the parts."""
        return tuple(one.drops for one in self.parts if not isinstance(one.drops, tuple))

    @property
    def max_length(self) -> int | None:
        """The shortest of the parts'."""
        lengths = [one.max_length for one in self.parts if one.max_length is not None]
        return min(lengths) if lengths else None

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Together:
        """Returns the module."""
        from jaxgen.models.diffusion.conditioners import Together

        return Together(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the sums of the parts'."""
        found = [one.count() for one in self.parts]
        return ParameterCount(
            total=sum(one.total for one in found),
            active=sum(one.active for one in found),
            embedding=sum(one.embedding for one in found),
        )

    def context_length(self, length: int) -> int:
        """Returns the sum of the parts'."""
        return sum(one.context_length(length) for one in self.parts)

    def row_flops(self, length: int) -> int:
        """Returns the sum of the parts'."""
        return sum(one.row_flops(length) for one in self.parts)
