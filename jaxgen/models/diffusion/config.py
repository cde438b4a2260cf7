"""The configuration of a model of diffusion: a denoiser and what stands around it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from jaxgen.domains import Domain, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch, media_batch_spec
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import ModelCard
from jaxgen.models.diffusion.base import DenoiserConfig
from jaxgen.models.diffusion.conditioner_protocol import ConditionerConfig
from jaxgen.pair_batch import PairBatch, pair_batch_spec

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.model import DiffusionModel
    from jaxgen.sharding.layout import Layout


@runtime_checkable
class LatentsConfig(Protocol):
    """Describes a frozen model that makes pictures smaller, such as a KL autoencoder.

    The module that it builds has `to_latents(pictures, key)` and `to_pictures(latents)`: of numbers
    from -1 to 1 [batch, picture_size, picture_size, 3], and of latents
    [batch, latent_size, latent_size, latent_channels] whose numbers are of size 1. `key` is None
    where the likeliest latents are asked for.

    Attributes:
      picture_size: rows and columns of a picture.
      latent_size: rows and columns of its latents.
      latent_channels: their channels.
    """

    @property
    def picture_size(self) -> int: ...

    @property
    def latent_size(self) -> int: ...

    @property
    def latent_channels(self) -> int: ...

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Any:
        """Returns the module."""
        ...

    def count(self) -> ParameterCount:
        """Returns the numbers of its parameters."""
        ...

    def latent_flops(self) -> int:
        """Returns the FLOPs of making one picture's latents."""
        ...


@dataclasses.dataclass(frozen=True)
class Upsampling:
    """What an upsampler reads beside: a smaller picture, made larger, with noise on it.

    In training that is the picture itself made smaller. The noise, of a level drawn from 0 to
    `most_noise`, is cos and sin of the level times pi / 2, and the network is told the level
    (noise-conditioning augmentation, 2205.11487, 2.4).

    Attributes:
      low_size: rows and columns of the smaller picture.
      most_noise: see there.
      noise: the level in use.
    """

    low_size: PositiveInt
    most_noise: Annotated[float, Domain(0, 1)] = 1.0
    noise: Annotated[float, Domain(0, 1)] = 0.1

    def __post_init__(self):
        check_domains(self, "upsampling")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """A denoiser of pictures or latents, and what it is told.

    The data are pairs, or pictures alone where there is no conditioner; a row's `length` is its
    prompt's, and 1 where it has none.

    Attributes:
      denoiser: the network, such as a U-Net or a transformer.
      conditioner: reads prompts; None: pictures are made of noise alone.
      latents: makes pictures smaller; None: the denoiser works on pixels.
      upsampling: of an upsampler; None: pictures are made from nothing smaller.
      card: what was published of the model; no part of what it computes.
    """

    denoiser: DenoiserConfig
    conditioner: ConditionerConfig | None = None
    latents: LatentsConfig | None = None
    upsampling: Upsampling | None = None
    card: ModelCard | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self):
        own, told = self.denoiser, self.conditioner
        for name in ("context_dim", "pooled_dim"):
            reads, gives = getattr(own, name), None if told is None else getattr(told, name)
            # What is given and not read is left; what is read must be given. A network alone is
            # what other formats keep, and it can be counted and converted.
            if told is not None and reads is not None and reads != gives:
                raise ConfigError(
                    f"diffusion.denoiser has {name}={reads}, and diffusion.conditioner gives "
                    f"{gives}: set one to the other."
                )
        if self.latents is not None:
            there = self.latents.latent_size, self.latents.latent_channels
            if there != (own.size, own.channels):
                raise ConfigError(
                    f"diffusion.latents are {there[0]} x {there[0]} of {there[1]} channels, and "
                    f"diffusion.denoiser has size={own.size}, channels={own.channels}: set these."
                )
        wanted = 0 if self.upsampling is None else own.channels
        if own.image_channels != wanted and self.upsampling is not None:
            raise ConfigError(
                f"diffusion.upsampling gives the denoiser {wanted} channels to read, and it has "
                f"image_channels={own.image_channels}: set it to {wanted}."
            )
        if self.upsampling is not None and self.upsampling.low_size >= own.size:
            raise ConfigError(
                f"upsampling.low_size={self.upsampling.low_size} is not below the denoiser's size, "
                f"{own.size}."
            )

    @property
    def picture_size(self) -> int:
        """Rows and columns of a picture."""
        return self.denoiser.size if self.latents is None else self.latents.picture_size

    @property
    def picture_channels(self) -> int:
        """Channels of a pixel."""
        return self.denoiser.channels if self.latents is None else 3

    @property
    def max_length(self) -> int | None:
        """The most tokens of a prompt."""
        return 1 if self.conditioner is None else self.conditioner.max_length

    def build(self, rngs: nnx.Rngs, layout: Layout) -> DiffusionModel:
        """Returns the model."""
        from jaxgen.models.diffusion.model import DiffusionModel

        return DiffusionModel(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters; active are the denoiser's."""
        own = self.denoiser.count_denoiser()
        parts = [one.count() for one in (self.conditioner, self.latents) if one is not None]
        total = own.total + sum(one.total for one in parts)
        embedding = own.embedding + sum(one.embedding for one in parts)
        return dataclasses.replace(own, total=total, embedding=embedding)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a prompt of `length`, its picture's share.

        Frozen parts are passed forward alone.
        """
        told, sizes = self.conditioner, (length, source_length)
        context = 0 if told is None else told.context_length(*sizes)
        total = 3 * self.denoiser.picture_flops(context)
        total += 0 if told is None else told.row_flops(*sizes)
        total += 0 if self.latents is None else self.latents.latent_flops()
        return round(total / length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> PairBatch | MediaBatch:
        """Returns the shapes of the rows that the model reads.

        Raises:
          ConfigError: for prompts that are too long, or with a source that nothing reads.
        """
        told = self.conditioner
        if source_length is not None and not getattr(told, "reads_source", False):
            raise ConfigError(
                f"train.source_length={source_length} is of captions by a second codec, and no "
                "@caption_encoder() has codec='second': leave it out."
            )
        if source_length is None and getattr(told, "reads_source", False):
            raise ConfigError(
                "caption_encoder.codec='second' reads captions by the data's second codec: set "
                "train.source_length to the tokens of a row of these, such as 77."
            )
        longest = getattr(told, "max_source_length", None)
        if longest is not None and (source_length or 0) > longest:
            raise ConfigError(
                f"train.source_length={source_length} is more than the encoder's {longest} tokens: "
                "set it to that."
            )
        most = self.max_length
        if most is not None and length > most:
            if self.conditioner is None:
                raise ConfigError(
                    f"train.length={length} is the tokens of a prompt, and a model without "
                    "diffusion.conditioner reads none: set train.length=1, with rows of pictures "
                    "alone (run.mixture = @media_rows())."
                )
            raise ConfigError(
                f"train.length={length} is the tokens of a prompt, and prompts have {most} at "
                f"most: set train.length={most}."
            )
        shape = self.picture_size, self.picture_size, self.picture_channels
        if self.conditioner is None:
            return media_batch_spec(batch_size, shape)
        return pair_batch_spec(batch_size, length, shape, source_length)
