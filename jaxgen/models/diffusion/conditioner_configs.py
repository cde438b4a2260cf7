"""The configurations of what reads classes, or a contrastive pair's vectors, for a denoiser."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxgen.domains import PositiveInt, ProperFraction, check_domains
from jaxgen.models.base import ParameterCount
from jaxgen.models.dual_encoder_config import DualEncoderConfig

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.conditioners import (
        ClassLabels,
        ClipConditioner,
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

    def context_length(self, length: int, source_length: int | None = None) -> int:
        """Returns 0: there is no sequence."""
        del length, source_length
        return 0

    def row_flops(self, length: int, source_length: int | None = None) -> int:
        """Returns 0: a row of a table is looked up."""
        del length, source_length
        return 0


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
    def reads_vectors(self) -> bool:
        """Whether it reads what a prior makes."""
        return self.reads == "images"

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

    def context_length(self, length: int, source_length: int | None = None) -> int:
        """Returns the caption's length; a picture has no sequence."""
        del source_length
        return length if self.reads == "texts" else 0

    def row_flops(self, length: int, source_length: int | None = None) -> int:
        """Returns those of a forward pass of one tower."""
        del source_length
        from jaxgen.models.vision_counting import stack_flops_per_token, vision_flops

        if self.reads == "texts":
            return length * stack_flops_per_token(self.pair.text, length)
        return vision_flops(self.pair.vision)
