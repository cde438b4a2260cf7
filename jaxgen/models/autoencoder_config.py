"""The configurations of autoencoders: convolutional towers about a bottleneck of codes.

The towers are those of DALL-E's discrete VAE (2102.12092, A.2), for pictures over two axes and for
sounds over one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from jaxgen.domains import PositiveInt, check_domains
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
    card: ModelCard | None = dataclasses.field(default=None, compare=False, repr=False)

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
    def identity(self) -> str:
        """Returns a text of all that its parameters are for, as files of them keep it."""
        return repr(self)

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
