"""The configuration of a transformer that reads captions for a denoiser."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxgen.domains import NonNegativeInt, PositiveInt, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import TransformerConfig

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.caption_encoder import CaptionEncoder
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class CaptionEncoderConfig:
    """A transformer without a head that reads captions, such as T5's encoder or CLIP's text tower.

    A caption that is dropped in training, or in use for guidance, is replaced by the empty one, as
    pipelines of Stable Diffusion encode the prompt that guidance leads away from.

    Attributes:
      model: reads the caption; its hidden states are the sequence.
      frozen: whether it stays as it begins (`run.initialize_parts = {'conditioner': RUN}`).
      precomputed: whether the data have what it makes of captions (`image_text_pairs.encodings`),
        by `jaxgen prepare --captions`, and the model is without it.
      pooled: whether the hidden state of the caption's last token is told too.
      projection: width of the vector, into which a matrix maps that state (CLIP's text projection);
        None: the state itself.
      skipped_layers: blocks at the end that the sequence is without, and then without the last norm
        too; the vector is of all (Stable Diffusion 3: 1).
      masks_padding: whether nothing attends to what follows a caption; else its padding is read
        like text (Stable Diffusion).
      pad_id: the id that padding is read as; None: the codec's.
      codec: which of the data's codecs made the tokens; the second is
        `image_text_pairs.second_codec`.
      drop: how often a caption is replaced by an empty one in training.
    """

    model: TransformerConfig
    frozen: bool = True
    precomputed: bool = False
    pooled: bool = False
    projection: PositiveInt | None = None
    skipped_layers: NonNegativeInt = 0
    masks_padding: bool = True
    pad_id: NonNegativeInt | None = None
    codec: Literal["first", "second"] = "first"
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
        if self.projection is not None and not self.pooled:
            raise ConfigError(
                f"caption_encoder.projection={self.projection} is of the vector, which is told "
                "with caption_encoder.pooled=True alone."
            )
        if self.skipped_layers >= self.model.num_layers:
            raise ConfigError(
                f"caption_encoder.skipped_layers={self.skipped_layers} leaves none of the model's "
                f"{self.model.num_layers} blocks; set it lower."
            )
        own_vector = self.pooled and (self.projection is not None or self.skipped_layers > 0)
        if self.precomputed and (own_vector or self.codec == "second"):
            raise ConfigError(
                "caption_encoder.precomputed=True reads a sequence that is stored by the tokens of "
                "the data's codec, and no vector is stored beside it: it goes with "
                "caption_encoder.codec='first', and without projection or skipped_layers where "
                "pooled=True."
            )

    @property
    def context_dim(self) -> int:
        """Width of the hidden states."""
        return self.model.embed_dim

    @property
    def pooled_dim(self) -> int | None:
        """That of the vector, where it is told."""
        return (self.projection or self.model.embed_dim) if self.pooled else None

    @property
    def drops(self) -> float:
        """How often a caption is dropped."""
        return self.drop

    @property
    def max_length(self) -> int | None:
        """The model's, of tokens by the first codec."""
        return self.model.max_length if self.codec == "first" else None

    @property
    def max_source_length(self) -> int | None:
        """The model's, of tokens by the second codec."""
        return self.model.max_length if self.codec == "second" else None

    @property
    def reads_source(self) -> bool:
        """Whether the tokens are the second codec's."""
        return self.codec == "second"

    def build(self, rngs: nnx.Rngs, layout: Layout) -> CaptionEncoder:
        """Returns the module."""
        from jaxgen.models.diffusion.caption_encoder import CaptionEncoder

        return CaptionEncoder(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the model's numbers with the projection's, none where states are precomputed."""
        if self.precomputed:
            return ParameterCount(total=0, active=0, embedding=0)
        found = self.model.count()
        more = self.model.embed_dim * (self.projection or 0)
        return dataclasses.replace(found, total=found.total + more, active=found.active + more)

    def context_length(self, length: int, source_length: int | None = None) -> int:
        """Returns the caption's length."""
        return self._length(length, source_length)

    def row_flops(self, length: int, source_length: int | None = None) -> int:
        """Returns those of training, of a forward pass where it is frozen, or 0 where it is not."""
        if self.precomputed:
            return 0
        from jaxgen.models.vision_counting import stack_flops_per_token

        own = self._length(length, source_length)
        forward = own * stack_flops_per_token(self.model, own)
        forward += 2 * self.model.embed_dim * (self.projection or 0)
        return forward if self.frozen else 3 * forward

    def _length(self, length: int, source_length: int | None) -> int:
        """Returns the tokens of the captions that it reads; None: as many as of the first."""
        return length if self.codec == "first" or source_length is None else source_length
