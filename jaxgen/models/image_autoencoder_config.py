"""The configuration of an autoencoder of pictures; see `models.autoencoder_config`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from jaxgen.domains import Domain, PositiveInt
from jaxgen.errors import ConfigError
from jaxgen.models.autoencoder_config import AutoencoderConfig, Modality

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.autoencoder import ImageAutoencoder
    from jaxgen.sharding.layout import Layout


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

    def build(self, rngs: nnx.Rngs, layout: Layout) -> ImageAutoencoder:
        """Returns the model."""
        from jaxgen.models.autoencoder import ImageAutoencoder

        return ImageAutoencoder(self, rngs, layout)
