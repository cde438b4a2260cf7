"""Sound as log-mel frames, and back from a spectrogram.

The defaults are Whisper's (2212.04356, 2.2): 16,000 samples a second, windows of 25 ms every 10 ms,
80 bands.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError

MOMENTUM = 0.99
"""How far each round goes beyond the last change, in changes."""


@dataclasses.dataclass(frozen=True)
class MelFrames:
    """The settings of a log-mel spectrogram.

    Attributes:
      rate: samples a second.
      window: samples that a frame is made of.
      hop: samples from one frame to the next.
      bands: numbers of a frame.
      highest: frequency, in Hz, that the bands reach to; None: half of the rate.
    """

    rate: PositiveInt = 16_000
    window: PositiveInt = 400
    hop: PositiveInt = 160
    bands: PositiveInt = 80
    highest: PositiveFloat | None = None

    def __post_init__(self):
        check_domains(self, "mel_frames")
        if self.hop > self.window:
            raise ConfigError(
                f"mel_frames.hop={self.hop} is more than mel_frames.window={self.window}: samples "
                "between the frames would be in none."
            )
        if self.highest is not None and self.highest > self.rate / 2:
            raise ConfigError(
                f"mel_frames.highest={self.highest:g} Hz is above half of mel_frames.rate="
                f"{self.rate}: sound of this rate has no such frequencies."
            )

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Returns the frames [frames, bands] float32 of samples in [-1, 1].

        There are ceil(samples / hop) of them, the first centred on the first sample. Each is the
        logarithm, to base 10, of the power in its bands, cut off 8 below the loudest of all and
        mapped to about [-1, 1] by (x + 4) / 4.
        """
        power = np.abs(self.spectrogram(samples)) ** 2
        mel = np.log10(np.maximum(power @ self.filters().T, 1e-10))
        mel = np.maximum(mel, mel.max(initial=-10) - 8)
        return ((mel + 4) / 4).astype(np.float32)

    def spectrogram(self, samples: np.ndarray) -> np.ndarray:
        """Returns the complex spectrum [frames, window // 2 + 1] of each frame."""
        samples = np.asarray(samples, np.float64)
        half = self.window // 2
        count = -(-len(samples) // self.hop)
        if not count:
            return np.zeros((0, half + 1), complex)
        mode = "reflect" if len(samples) > half else "constant"
        padded = np.pad(samples, half, mode=mode)
        padded = np.pad(padded, (0, max(0, (count - 1) * self.hop + self.window - len(padded))))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.window)
        return np.fft.rfft(windows[:: self.hop][:count] * self._shape())

    def samples_of(self, magnitudes: np.ndarray, rounds: int = 60, seed: int = 0) -> np.ndarray:
        """Returns sound whose spectrogram has these magnitudes, as nearly as there is one.

        Phases begin at random; each round takes those of the sound that the last one made (Griffin
        and Lim, 1984), and goes beyond the change (Perraudin and others, 2013).

        Args:
          magnitudes: [frames, window // 2 + 1].
          rounds: of improvement.
          seed: of the phases.

        Returns:
          [frames * hop] float32.
        """
        phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, magnitudes.shape)
        spectrum, before = magnitudes * np.exp(1j * phases), np.zeros(magnitudes.shape)
        for _ in range(rounds):
            again = self.spectrogram(self._overlap(spectrum))
            further = again + MOMENTUM * (again - before)
            spectrum, before = magnitudes * np.exp(1j * np.angle(further)), again
        return self._overlap(spectrum).astype(np.float32)

    def _overlap(self, spectrum: np.ndarray) -> np.ndarray:
        """Returns the sound whose windows are nearest, in squares, to those of a spectrum."""
        shape, half = self._shape(), self.window // 2
        frames = np.fft.irfft(spectrum, n=self.window) * shape
        length = (len(frames) - 1) * self.hop + self.window
        total, weight = np.zeros(length), np.zeros(length)
        places = self.hop * np.arange(len(frames))[:, None] + np.arange(self.window)
        np.add.at(total, places, frames)
        np.add.at(weight, places, np.broadcast_to(shape**2, places.shape))
        sound = (total / np.maximum(weight, 1e-8))[half:][: len(frames) * self.hop]
        return np.pad(sound, (0, len(frames) * self.hop - len(sound)))

    def _shape(self) -> np.ndarray:
        """Returns the Hann window, periodic."""
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)

    def filters(self) -> np.ndarray:
        """Returns the weight of each frequency in each band: [bands, window // 2 + 1].

        Bands are triangles, evenly apart on Slaney's scale of mels (linear up to 1,000 Hz, then
        logarithmic) and of one area.
        """
        highest = self.rate / 2 if self.highest is None else self.highest
        frequencies = np.fft.rfftfreq(self.window, 1 / self.rate)
        corners = _hertz(np.linspace(0, _mels(np.array(highest)), self.bands + 2))
        widths = np.diff(corners)
        slopes = corners[:, None] - frequencies
        rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
        triangles = np.maximum(0, np.minimum(rising, falling))
        return triangles * (2 / (corners[2:] - corners[:-2]))[:, None]


_LINEAR, _CORNER, _STEP = 200 / 3, 1000.0, np.log(6.4) / 27
"""Hz of a mel below the corner, the corner, and the logarithm of a mel's ratio above it (Slaney's
Auditory Toolbox, 1998)."""


def _mels(hertz: np.ndarray) -> np.ndarray:
    above = _CORNER / _LINEAR + np.log(np.maximum(hertz, _CORNER) / _CORNER) / _STEP
    return np.where(hertz < _CORNER, hertz / _LINEAR, above)


def _hertz(mels: np.ndarray) -> np.ndarray:
    above = _CORNER * np.exp(_STEP * (mels - _CORNER / _LINEAR))
    return np.where(mels < _CORNER / _LINEAR, mels * _LINEAR, above)
