"""Sound files decoded: WAV of any width, mixed to one channel and at one rate, or a refusal."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np

from jaxgen.errors import DataError

MOST_SAMPLES = 2**27
"""Of a file that is decoded, all channels together: 46 minutes of stereo at 24,000 a second."""


def decode_sound(
    data: bytes, rate: int, where: str = "a sound", most_samples: int = MOST_SAMPLES
) -> np.ndarray:
    """Returns the samples of a WAV file: [samples] float32, in [-1, 1] as written.

    Channels are averaged. Another rate is converted by a filter that leaves out what the new one
    cannot hold.

    Args:
      data: the file; of 8, 16, 24 or 32 bits, or floats.
      rate: samples a second.
      where: it is from, for messages.
      most_samples: refused above.

    Raises:
      DataError: if it is no WAV file, is damaged or cut short, has no samples or too many, or
        samples that are not finite.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    if not data:
        raise DataError(f"{where} is empty, not a sound.")
    if len(data) > 8 * most_samples:
        raise DataError(
            f"{where} has {len(data):,} bytes, and at most {most_samples:,} samples are decoded: "
            "cut it into pieces."
        )
    promised = int.from_bytes(data[4:8], "little") + 8
    if data[:4] == b"RIFF" and len(data) < promised < 2**32:  # What writes to a pipe does not know.
        raise DataError(f"{where} is cut short: {len(data):,} of {promised:,} bytes are there.")
    # Of chunks that are no sound, such as titles, which it passes over.
    warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
    try:
        found, samples = wavfile.read(io.BytesIO(data))
    except Exception as error:  # scipy raises ValueError, struct.error, IndexError and more.
        raise DataError(f"{where} cannot be decoded as WAV: {error}.") from error
    if samples.size > most_samples:
        raise DataError(
            f"{where} has {samples.size:,} samples, and at most {most_samples:,} are decoded: cut "
            "it into pieces."
        )
    if not samples.size or found < 1:
        raise DataError(f"{where} has no samples.")
    mono = _to_unit(samples).reshape(len(samples), -1).mean(axis=1)
    if not np.isfinite(mono).all():
        raise DataError(f"{where} has samples that are not finite.")
    if found != rate:
        shared = math.gcd(found, rate)
        if max(found, rate) // shared > 10**6:
            raise DataError(f"{where} has {found} samples a second, which do not become {rate}.")
        mono = resample_poly(mono, rate // shared, found // shared)
    return mono.astype(np.float32)


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """Returns a WAV file of 16 bits; what is louder than 1 is cut off."""
    from scipy.io import wavfile

    file = io.BytesIO()
    levels = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    wavfile.write(file, rate, levels)
    return file.getvalue()


def _to_unit(samples: np.ndarray) -> np.ndarray:
    """Returns samples whose full scale is 1."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float64) - 128) / 128
    if samples.dtype.kind == "i":  # 24 bits come in the upper bytes of 32.
        return samples.astype(np.float64) / 2 ** (8 * samples.dtype.itemsize - 1)
    return samples.astype(np.float64)
