"""The configuration of a KL autoencoder: pictures to latents that are nearly normal, and back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch, media_batch_spec
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import ModelCard

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.kl_autoencoder import KlAutoencoder
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class KlAutoencoderConfig:
    """An autoencoder whose latents are drawn from normal distributions (2112.10752, appendix G).

    The encoder is a convolution, levels of residual blocks with halved rows and columns between
    them, and two more blocks with an attention between; the decoder is the same in reverse, with
    one block more at each level.

    Attributes:
      size: rows and columns of a picture. The latents have 2^(levels - 1) times fewer.
      channels: of a pixel.
      width: channels of a level whose multiplier is 1.
      multipliers: of each level, from the highest resolution on.
      blocks: residual blocks of a level of the encoder.
      latent_channels: of the latents.
      moments_convolution: whether a convolution of one pixel follows the encoder, and one precedes
        the decoder (Stable Diffusion 1 and 2; not in 3).
      middle_attention: whether pixels attend to one another at the lowest resolution.
      norm_groups: of group norm.
      latent_scale: what latents are multiplied by to have numbers of size 1: 0.18215 in Stable
        Diffusion 1, 0.13025 in XL, 1.5305 in 3; after training, one over the standard deviation
        that the rows report.
      latent_shift: what is taken from them before: 0.0609 in Stable Diffusion 3.
      discriminator: channels of the first convolution of a discriminator of patches, which only
        training with an adversarial loss uses; None: there is none.
      compute_dtype: of activations and products; parameters, norms and losses stay float32.
      card: what was published of the model; no part of what it computes.
    """

    size: PositiveInt = 256
    channels: PositiveInt = 3
    width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 4, 4)
    blocks: PositiveInt = 2
    latent_channels: PositiveInt = 4
    moments_convolution: bool = True
    middle_attention: bool = True
    norm_groups: PositiveInt = 32
    latent_scale: PositiveFloat = 0.18215
    latent_shift: Annotated[float, Domain(-1000, 1000)] = 0.0
    discriminator: PositiveInt | None = None
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    card: ModelCard | None = dataclasses.field(default=None, compare=False, repr=False)

    NAME: ClassVar[str] = "kl_autoencoder"

    def __post_init__(self):
        check_domains(self, self.NAME)
        if not self.multipliers:
            raise ConfigError("kl_autoencoder.multipliers is empty; give one for each level.")
        if self.size % self.reduction:
            raise ConfigError(
                f"kl_autoencoder.size={self.size} cannot be halved {len(self.multipliers) - 1} "
                f"times, once between two levels; use a multiple of {self.reduction}."
            )
        if uneven := [one for one in self.widths if one % self.norm_groups]:
            raise ConfigError(
                f"kl_autoencoder.norm_groups={self.norm_groups} do not divide a level's "
                f"{uneven[0]} channels (kl_autoencoder.width={self.width})."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * one for one in self.multipliers)

    @property
    def reduction(self) -> int:
        """By how much rows and columns are reduced."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def picture_size(self) -> int:
        """Rows and columns of a picture."""
        return self.size

    @property
    def latent_size(self) -> int:
        """Rows and columns of its latents."""
        return self.size // self.reduction

    @property
    def max_length(self) -> int:
        """A row is one picture, and has no tokens."""
        return 1

    def build(self, rngs: nnx.Rngs, layout: Layout) -> KlAutoencoder:
        """Returns the model."""
        from jaxgen.models.diffusion.kl_autoencoder import KlAutoencoder

        return KlAutoencoder(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters; the discriminator's are not active."""
        from jaxgen.models.diffusion.kl_autoencoder_counting import count_kl_autoencoder

        active, discriminator = count_kl_autoencoder(self)
        return ParameterCount(total=active + discriminator, active=active)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a picture."""
        del length, source_length
        from jaxgen.models.diffusion.kl_autoencoder_counting import kl_autoencoder_flops

        return 3 * sum(kl_autoencoder_flops(self))

    def latent_flops(self) -> int:
        """Returns the FLOPs of making one picture's latents."""
        from jaxgen.models.diffusion.kl_autoencoder_counting import kl_autoencoder_flops

        return kl_autoencoder_flops(self)[0]

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> MediaBatch:
        """Returns the shapes of the pictures that the model reads.

        Raises:
          ConfigError: if `length` is not 1, or there is a source.
        """
        if source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder of text; leave "
                "it out."
            )
        if length != 1:
            raise ConfigError(
                f"train.length={length} is of tokens, and a row of kl_autoencoder is one picture: "
                "set train.length=1."
            )
        return media_batch_spec(batch_size, (self.size, self.size, self.channels))
