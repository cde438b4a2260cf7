"""The configurations of autoencoders: convolutional towers about a bottleneck of codes.

The towers are those of DALL-E's discrete VAE (2102.12092, A.2), for pictures over two axes and for
sounds over one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from jaxgen.domains import Domain, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch, media_batch_spec
from jaxgen.models.base import ParameterCount
from jaxgen.models.bottleneck import Bottleneck, FiniteScalar
from jaxgen.models.config import ModelCard

if TYPE_CHECKING:
    import numpy as np
    from flax import nnx

    from jaxgen.models.autoencoder import Autoencoder
    from jaxgen.sharding.layout import Layout

Modality = Literal["image", "audio"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """What autoencoders of pictures and of sounds have in common.

    An encoder is a convolution, groups of residual blocks with halved lengths between them, and a
    matrix to the bottleneck; a decoder is a matrix, the groups in reverse with doubled lengths
    between them, and a matrix. A block has four convolutions, a quarter as wide but for its last,
    and adds their result divided by the square of the number of blocks.

    Attributes:
      bottleneck: what becomes codes, and how.
      hidden: channels of a group of width 1.
      groups: the width of each group, in units of `hidden`.
      blocks: of a group.
      decoder_input: channels that the decoder begins with.
      encoder_kernel: places along each axis that a convolution of the encoder's blocks reads. With
        1, and a first convolution of 1, a code is of its own patch alone: equal patches have equal
        codes wherever they are.
      compute_dtype: of activations and products; parameters and losses stay float32.
      card: what was published of the model; no part of what it computes.
    """

    bottleneck: Bottleneck = FiniteScalar()
    hidden: PositiveInt = 256
    groups: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    blocks: PositiveInt = 2
    decoder_input: PositiveInt = 128
    encoder_kernel: PositiveInt = 3
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    card: ModelCard | None = dataclasses.field(default=None, compare=False)

    NAME: ClassVar[str] = "autoencoder"
    modality: ClassVar[Modality]

    def __post_init__(self):
        check_domains(self, self.NAME)
        if not self.groups or any(self.hidden * width % 4 for width in self.groups):
            raise ConfigError(
                f"{self.NAME}.groups={self.groups} of {self.NAME}.hidden={self.hidden} channels: "
                "there must be a group, and its channels a multiple of 4, as blocks are a quarter "
                "as wide inside."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of a row: height, width and channels, or samples."""
        raise NotImplementedError

    @property
    def grid(self) -> tuple[int, int, int]:
        """Returns how many codes of a row lie along time, height and width."""
        raise NotImplementedError

    @property
    def first_size(self) -> tuple[int, ...]:
        """Returns the sizes of the encoder's first convolution and the channels that it reads."""
        raise NotImplementedError

    @property
    def output_width(self) -> int:
        """Returns the numbers that the decoder gives for a place of its full resolution."""
        raise NotImplementedError

    @property
    def codes_per_place(self) -> int:
        """Returns the codes of a place of the encoder's last resolution."""
        return 1

    @property
    def reduction(self) -> int:
        """Returns by how much the towers reduce each length."""
        return 2 ** (len(self.groups) - 1)

    @property
    def encoder_kernels(self) -> tuple[int, ...]:
        """Returns the sizes of the convolutions of an encoder's block."""
        return *[self.encoder_kernel] * 3, 1

    @property
    def decoder_kernels(self) -> tuple[int, ...]:
        """Returns the sizes of the convolutions of a decoder's block."""
        return 1, 3, 3, 3

    @property
    def gain(self) -> float:
        """Returns what a block's result is multiplied by."""
        return (len(self.groups) * self.blocks) ** -2

    @property
    def num_codes(self) -> int:
        """Returns the number of different codes."""
        return self.bottleneck.num_codes

    @property
    def max_length(self) -> int:
        """Returns the codes of a row."""
        time, height, width = self.grid
        return time * height * width

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Autoencoder:
        """Returns the model."""
        raise NotImplementedError

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Autoencoder:
        """Returns the model of these parameters by name, on one device.

        Raises:
          ConfigError: if a parameter is missing, or has another shape.
        """
        from jaxgen.models.autoencoder import restored

        return restored(self, arrays)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters; every code is made by all of them."""
        from jaxgen.models.autoencoder_counting import count_autoencoder

        total = count_autoencoder(self)[0]
        return ParameterCount(total=total, active=total)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a code of a row."""
        del length, source_length
        from jaxgen.models.autoencoder_counting import count_autoencoder

        return round(3 * count_autoencoder(self)[1] / self.max_length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> MediaBatch:
        """Returns the shapes of the rows that the model reads.

        Raises:
          ConfigError: if `length` is not that of a row in codes, or there is a source.
        """
        if source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder of text; leave "
                "it out."
            )
        if length != self.max_length:
            raise ConfigError(
                f"train.length={length} is not the codes of a row of {self.NAME}, which are "
                f"{self.max_length}, {' x '.join(map(str, self.grid))} (time, height, width): set "
                f"train.length={self.max_length}."
            )
        return media_batch_spec(batch_size, self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageAutoencoderConfig(AutoencoderConfig):
    """An autoencoder of pictures of one size.

    Attributes:
      bottleneck: see `AutoencoderConfig`, and so for what is not named here.
      height: of a picture, in pixels.
      width: of a picture.
      channels: of a pixel.
      patch: pixels of a side that are one place of the towers' highest resolution.
      first_kernel: rows and columns of the first convolution.
      output: what the decoder says of a number: its value, or the centre and the scale of a
        distribution of its logit ("logit_laplace").
      margin: how far numbers between 0 and 1 are kept from both ends, for the encoder and for the
        loss; the density of "logit_laplace" needs some.
    """

    height: PositiveInt = 256
    width: PositiveInt = 256
    channels: PositiveInt = 3
    patch: PositiveInt = 1
    first_kernel: PositiveInt = 7
    output: Literal["value", "logit_laplace"] = "value"
    margin: Annotated[float, Domain(0, 0.5, "[)")] = 0.0

    NAME: ClassVar[str] = "image_autoencoder"
    modality: ClassVar[Modality] = "image"

    def __post_init__(self):
        super().__post_init__()
        side = self.patch * self.reduction
        if self.height % side or self.width % side:
            raise ConfigError(
                f"image_autoencoder: pictures of {self.height}x{self.width} in patches of "
                f"{self.patch} cannot be halved {len(self.groups) - 1} times, once between two "
                f"groups: use multiples of {side}, or fewer groups."
            )
        if self.output == "logit_laplace" and not self.margin:
            raise ConfigError(
                "image_autoencoder.margin=0 with output='logit_laplace': numbers of 0 and 1 have "
                "no logit; set the margin to 0.1, as DALL-E has it."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns height, width and channels."""
        return self.height, self.width, self.channels

    @property
    def grid(self) -> tuple[int, int, int]:
        """Returns 1, and the rows and columns of codes."""
        side = self.patch * self.reduction
        return 1, self.height // side, self.width // side

    @property
    def first_size(self) -> tuple[int, ...]:
        """Returns rows, columns, and the numbers of a patch."""
        return self.first_kernel, self.first_kernel, self.patch**2 * self.channels

    @property
    def output_width(self) -> int:
        """Returns a number, or two, for each of a patch."""
        return self.patch**2 * self.channels * (2 if self.output == "logit_laplace" else 1)

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Autoencoder:
        """Returns the model."""
        from jaxgen.models.autoencoder import ImageAutoencoder

        return ImageAutoencoder(self, rngs, layout)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundAutoencoderConfig(AutoencoderConfig):
    """An autoencoder of sounds, as patches of a waveform that overlap.

    The first convolution reads windows of samples, and the last matrix writes some, which are added
    where they overlap. Of longer or shorter sounds the codes are more or fewer.

    Attributes:
      bottleneck: see `AutoencoderConfig`, and so for what is not named here.
      samples: of a row that is trained on.
      rate: samples a second.
      hop: samples from one window to the next.
      window: samples of one; a multiple of the hop.
      codes_per_frame: codes of one moment, which lie below one another.
    """

    samples: PositiveInt = 2048
    rate: PositiveInt = 8000
    hop: PositiveInt = 32
    window: PositiveInt = 64
    codes_per_frame: PositiveInt = 1

    NAME: ClassVar[str] = "sound_autoencoder"
    modality: ClassVar[Modality] = "audio"

    def __post_init__(self):
        super().__post_init__()
        if self.window % self.hop or (self.window - self.hop) % 2:
            raise ConfigError(
                f"sound_autoencoder.window={self.window} must be a multiple of "
                f"sound_autoencoder.hop={self.hop} that is longer by an even number of samples, "
                f"such as {2 * self.hop if self.hop % 2 == 0 else 3 * self.hop}."
            )
        if self.samples % self.frame:
            longer = -(-self.samples // self.frame) * self.frame
            raise ConfigError(
                f"sound_autoencoder.samples={self.samples} are no whole frames of {self.frame} "
                f"(the hop, doubled between two groups); use {longer}."
            )

    @property
    def frame(self) -> int:
        """Returns the samples that the codes of one moment stand for."""
        return self.hop * self.reduction

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the samples."""
        return (self.samples,)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Returns frames, the codes of each, and 1."""
        return self.samples // self.frame, self.codes_per_frame, 1

    @property
    def codes_per_place(self) -> int:
        """Returns the codes of a frame."""
        return self.codes_per_frame

    @property
    def first_size(self) -> tuple[int, ...]:
        """Returns the window, and a channel."""
        return self.window, 1

    @property
    def output_width(self) -> int:
        """Returns the window."""
        return self.window

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Autoencoder:
        """Returns the model."""
        from jaxgen.models.autoencoder import SoundAutoencoder

        return SoundAutoencoder(self, rngs, layout)
