"""The configuration of media that a model reads as vectors at places of its rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from jaxgen.domains import Domain, NonNegativeInt, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError

if TYPE_CHECKING:
    from flax import nnx


class MediaEncoderConfig(Protocol):
    """What makes hidden states of one picture or sound; `VisionConfig` is one.

    Attributes:
      input_shape: of one, without a batch axis.
      num_tokens: hidden states of one.
      grid: rows and columns that the last of these lie on; before them may be a class token.
      width: of a hidden state.
      num_layers: blocks of its stack; 0 without one.
      differs_in_training: whether a training pass differs from use.
    """

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def num_tokens(self) -> int: ...

    @property
    def grid(self) -> tuple[int, int]: ...

    @property
    def width(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def differs_in_training(self) -> bool: ...

    def make(self, rngs: nnx.Rngs) -> Any:
        """Returns the encoder, a module with `features(media, key, num_layers)`.

        It maps [batch, *input_shape] to the hidden states after so many blocks, without a last
        norm, or after all of them and the norm where the number is None.
        """
        ...

    def size(self) -> tuple[int, int]:
        """Returns the exact number of parameters, and that of the position table among them."""
        ...

    def forward_flops(self, num_layers: int | None = None) -> int:
        """Returns the operations of the matrix products for one, of so many blocks (None: all)."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Projector:
    """The way from hidden states of a media encoder to vectors of a model's rows.

    Attributes:
      layers: matrices: 1, or 2 with the activation between, the first as wide as the stream (LLaVA
        1.5, 2310.03744).
      bias: whether each has a bias.
      activation: between two.
      pool: rows and columns of hidden states of which the mean becomes one vector (Gemma 3,
        2503.19786, 2.1, takes 4 x 4).
      norm: whether an RMS norm, with its scale kept as the difference from 1, comes before the
        first matrix (Gemma 3).
      norm_epsilon: added to its mean square.
    """

    layers: Literal[1, 2] = 1
    bias: bool = True
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"] = "gelu"
    pool: PositiveInt = 1
    norm: bool = False
    norm_epsilon: PositiveFloat = 1e-6

    def __post_init__(self):
        check_domains(self, "projector")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MediaInput:
    """Media of one modality, encoded and written at the places of a row that a token marks.

    Attributes:
      encoder: makes hidden states of each picture or sound.
      token: the id that marks a place; as many follow one another as one has vectors.
      modality: the name of their arrays in a batch.
      projector: from the encoder's width to the stream's.
      encoder_layers: blocks whose hidden states are read, without the last norm; below 0 counted
        from the end, so that -1 leaves out the last block (LLaVA). None: all, and the norm.
      class_token: whether the encoder's class token, if it has one, is the first vector.
      frozen: whether the encoder is not trained.
    """

    encoder: MediaEncoderConfig
    token: NonNegativeInt
    modality: Literal["image", "audio"] = "image"
    projector: Projector = Projector()
    encoder_layers: Annotated[int, Domain(-1000, 1000)] | None = None
    class_token: bool = False
    frozen: bool = False

    def __post_init__(self):
        check_domains(self, "media_input")
        rows, columns = self.encoder.grid
        pool = self.projector.pool
        if rows % pool or columns % pool:
            raise ConfigError(
                f"projector.pool={pool} does not divide the {rows} x {columns} hidden states of "
                "media_input.encoder; give a number that divides both."
            )
        extra = self.encoder.num_tokens - rows * columns
        if self.class_token and (pool > 1 or not extra):
            raise ConfigError(
                "media_input.class_token=True needs an encoder with a class token, and "
                "projector.pool=1."
            )
        layers, depth = self.encoder_layers, self.encoder.num_layers
        if layers is not None and not (-depth < layers < 0 or 0 < layers <= depth):
            raise ConfigError(
                f"media_input.encoder_layers={layers} is none of the encoder's {depth} blocks; "
                f"give 1 to {depth}, or -1 to {1 - depth} counted from the end."
            )

    @property
    def num_vectors(self) -> int:
        """Vectors of one picture or sound."""
        rows, columns = self.encoder.grid
        return rows * columns // self.projector.pool**2 + self.class_token

    @property
    def width(self) -> int:
        """Columns of the grid that the vectors of one lie on."""
        return self.encoder.grid[1] // self.projector.pool

    @property
    def layers_read(self) -> int | None:
        """Blocks of the encoder that are run; None: all, and the norm after them."""
        layers = self.encoder_layers
        return layers if layers is None or layers > 0 else self.encoder.num_layers + layers

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use."""
        return self.encoder.differs_in_training and not self.frozen


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchesConfig:
    """Patches of an image as they are, for a projector that is all there is of an encoder (Fuyu).

    Attributes:
      image_size: rows and columns of an image.
      patch_size: rows and columns of a patch, which divide the image's.
      channels: of an image.
    """

    image_size: PositiveInt = 224
    patch_size: PositiveInt = 16
    channels: PositiveInt = 3

    NAME: ClassVar[str] = "patches"
    num_layers = 0
    differs_in_training = False

    def __post_init__(self):
        check_domains(self, self.NAME)
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"{self.NAME}.image_size={self.image_size} is not divided by "
                f"{self.NAME}.patch_size={self.patch_size}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.image_size, self.image_size, self.channels

    @property
    def grid(self) -> tuple[int, int]:
        side = self.image_size // self.patch_size
        return side, side

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def patch_width(self) -> int:
        return self.patch_size**2 * self.channels

    @property
    def width(self) -> int:
        return self.patch_width

    def make(self, rngs: nnx.Rngs) -> Any:
        from jaxgen.models.media import Patches

        del rngs
        return Patches(self)

    def size(self) -> tuple[int, int]:
        return 0, 0

    def forward_flops(self, num_layers: int | None = None) -> int:
        del num_layers
        return 0
