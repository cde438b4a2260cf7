"""The configuration of one model that writes text and denoises pictures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import ModelCard, TransformerConfig
from jaxgen.models.media_config import MediaInput
from jaxgen.models.noisy_patches import NoisyPatchesConfig
from jaxgen.ops.attention.masks import looks_ahead

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.transfusion import Transfusion
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class TransfusionConfig:
    """A transformer over text and patches of pictures, with a head for each (2408.11039).

    Attributes:
      model: the transformer, which reads pictures through `noisy_patches`, one vector a patch. Its
        layers let the patches of a picture see one another: layer.mask = (@either(),) of @causal()
        and @same_picture().
      card: what was published of the model; no part of what it computes.
    """

    model: TransformerConfig
    card: ModelCard | None = dataclasses.field(default=None, compare=False, repr=False)

    upsampling = None

    def __post_init__(self):
        inputs = [one for one in self.model.media if isinstance(one.encoder, NoisyPatchesConfig)]
        if len(inputs) != 1 or inputs[0].projector.pool > 1:
            raise ConfigError(
                "transfusion.model must read pictures by patches that tell how noisy they are, and "
                "not pooled: set model.media = (@media_input(),) and media_input.encoder = "
                "@noisy_patches()."
            )
        if not all(looks_ahead(layer.mask) for layer in self.model.kinds_of_layers):
            raise ConfigError(
                "the layers of transfusion.model are causal, and the patches of a picture are "
                "predicted all at once: set layer.mask = (@either(),) and either.predicates = "
                "(@causal(), @same_picture())."
            )

    @property
    def language_model(self) -> TransformerConfig:
        """What writes."""
        return self.model

    @property
    def picture_input(self) -> MediaInput:
        """How pictures are read."""
        return next(one for one in self.model.media if isinstance(one.encoder, NoisyPatchesConfig))

    @property
    def pictures(self) -> NoisyPatchesConfig:
        """The form of a picture."""
        encoder: Any = self.picture_input.encoder
        return encoder

    @property
    def denoiser(self) -> TransfusionConfig:
        """The same, as samplers ask for the size and channels of what is denoised."""
        return self

    @property
    def size(self) -> int:
        """Rows and columns of a picture."""
        return self.pictures.image_size

    @property
    def picture_size(self) -> int:
        """The same: what is denoised are the pictures themselves."""
        return self.size

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.pictures.channels

    @property
    def vocab_size(self) -> int:
        """The language model's."""
        return self.model.vocab_size

    @property
    def max_length(self) -> int | None:
        """The most tokens of a row."""
        return self.model.max_length

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Transfusion:
        """Returns the model."""
        from jaxgen.models.transfusion import Transfusion

        return Transfusion(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters."""
        own, head = self.model.count(), (self.model.embed_dim + 1) * self.pictures.patch_width
        return dataclasses.replace(own, total=own.total + head, active=own.active + head)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token, as if rows were full of pictures too."""
        head = 6 * self.model.embed_dim * self.pictures.patch_width
        return self.model.flops(length, source_length) + head

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> Batch:
        """Returns the shapes of the rows that the transformer reads."""
        return self.model.batch_spec(
            batch_size=batch_size, length=length, source_length=source_length
        )
