"""The configuration of an autoencoder of sounds; see `models.autoencoder_config`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from jaxgen.domains import PositiveInt
from jaxgen.errors import ConfigError
from jaxgen.models.autoencoder_config import AutoencoderConfig, Modality

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.autoencoder import SoundAutoencoder
    from jaxgen.sharding.layout import Layout


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

    def build(self, rngs: nnx.Rngs, layout: Layout) -> SoundAutoencoder:
        """Returns the model."""
        from jaxgen.models.autoencoder import SoundAutoencoder

        return SoundAutoencoder(self, rngs, layout)
