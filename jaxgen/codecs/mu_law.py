"""Sound in 8 bits a sample: mu-law companding (ITU-T G.711's curve, as in WaveNet, 1609.03499)."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from jaxgen.codecs.media import Grid, Modality, check_sound
from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError

MU = 255


def encode_mu_law(samples: np.ndarray) -> np.ndarray:
    """Returns the level of each sample in [-1, 1]: int32 in [0, 255]; louder ones are cut off."""
    x = np.clip(np.asarray(samples, np.float64), -1, 1)
    bent = np.sign(x) * np.log1p(MU * np.abs(x)) / np.log1p(MU)
    return np.floor((bent + 1) / 2 * MU + 0.5).astype(np.int32)


def decode_mu_law(levels: np.ndarray) -> np.ndarray:
    """Returns the sample of each level: float32 in [-1, 1]."""
    bent = 2 * np.asarray(levels, np.float64) / MU - 1
    return (np.sign(bent) * np.expm1(np.abs(bent) * np.log1p(MU)) / MU).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class MuLaw:
    """Sounds as one of 256 levels a sample: a codec without a file, for short ones.

    Attributes:
      rate: samples a second.
      seconds: of the longest sound.
    """

    rate: PositiveInt = 8000
    seconds: PositiveFloat = 0.5

    def __post_init__(self):
        check_domains(self, "mu_law")
        if self.seconds * self.rate < 1:
            raise ConfigError(f"mu_law.seconds={self.seconds} has no sample; make it longer.")

    @property
    def modality(self) -> Modality:
        """Returns that the codes are of sound."""
        return "audio"

    @property
    def num_codes(self) -> int:
        """Returns the levels."""
        return MU + 1

    @property
    def grid(self) -> Grid:
        """Returns the samples of the longest sound."""
        return round(self.seconds * self.rate), 1, 1

    @property
    def varies(self) -> bool:
        """Returns that sounds may be shorter."""
        return True

    @property
    def digest(self) -> str:
        """Returns the name, as there is nothing else to know it by."""
        return "mu_law"

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the level of each sample of a sound; see `MediaCodec.encode`."""
        check_sound(values, "mu_law", self.seconds, self.rate)
        return encode_mu_law(values)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the samples of levels."""
        return decode_mu_law(codes)

    def keep_in(self, folder: pathlib.Path) -> None:
        """Keeps nothing: there is no file."""
