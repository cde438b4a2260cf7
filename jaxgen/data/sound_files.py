"""Sound files decoded: of any width, mixed to one channel and at one rate, or a refusal.

WAV files need nothing else; FLAC, MP3, Ogg, MP4 and WebM need PyAV, the extra `av`.
"""

from __future__ import annotations

import io
import math
import warnings

import numpy as np

from jaxgen.errors import ConfigError, DataError

MOST_SAMPLES = 2**27
"""Of a file that is decoded, all channels together: 46 minutes of stereo at 24,000 a second."""
COMPRESSED = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\x1aE\xdf\xa3")
"""How files begin that PyAV decodes; MP4 has "ftyp" after four bytes."""


def decode_sound(
    data: bytes, rate: int, where: str = "a sound", most_samples: int = MOST_SAMPLES
) -> np.ndarray:
    """Returns the samples of a sound file: [samples] float32, in [-1, 1] as written.

    Channels are averaged. Another rate is converted by a filter that leaves out what the new one
    cannot hold.

    Args:
      data: the file; WAV of 8, 16, 24 or 32 bits, or floats, or one of COMPRESSED.
      rate: samples a second.
      where: it is from, for messages.
      most_samples: refused above.

    Raises:
      DataError: if it is no such file, is damaged or cut short, has no samples or too many, or
        samples that are not finite.
      ConfigError: if it needs PyAV, and that is not installed.
    """
    from scipy.signal import resample_poly

    if not data:
        raise DataError(f"{where} is empty, not a sound.")
    if len(data) > 8 * most_samples:
        raise DataError(
            f"{where} has {len(data):,} bytes, and at most {most_samples:,} samples are decoded: "
            "cut it into pieces."
        )
    if data.startswith(COMPRESSED) or data[4:8] == b"ftyp":
        found, samples = _read_compressed(data, where, most_samples)
    else:
        found, samples = _read_wav(data, where)
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
        if len(mono) * rate > most_samples * found:
            raise DataError(
                f"{where} has {len(mono):,} samples, {found} a second: at {rate:,} they are more "
                f"than the {most_samples:,} that are decoded."
            )
        mono = resample_poly(mono, rate // shared, found // shared)
    return mono.astype(np.float32)


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """Returns a WAV file of 16 bits; what is louder than 1 is cut off."""
    from scipy.io import wavfile

    file = io.BytesIO()
    levels = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    wavfile.write(file, rate, levels)
    return file.getvalue()


def _read_wav(data: bytes, where: str) -> tuple[int, np.ndarray]:
    """Returns samples a second, and [samples] or [samples, channels] of the file's own type."""
    from scipy.io import wavfile

    promised = int.from_bytes(data[4:8], "little") + 8
    if data[:4] == b"RIFF" and len(data) < promised < 2**32:  # What writes to a pipe does not know.
        raise DataError(f"{where} is cut short: {len(data):,} of {promised:,} bytes are there.")
    # Of chunks that are no sound, such as titles, which it passes over.
    warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)
    try:
        return wavfile.read(io.BytesIO(data))
    except Exception as error:  # scipy raises ValueError, struct.error, IndexError and more.
        reason = str(error).rstrip(".")
        raise DataError(f"{where} cannot be decoded as WAV: {reason}.") from error


def _read_compressed(data: bytes, where: str, most_samples: int) -> tuple[int, np.ndarray]:
    """Returns samples a second, and [samples, channels] float32."""
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        # Not a fault of the file, which on_error="skip" would leave out.
        raise ConfigError(
            f"{where} is no WAV file, and other sounds need a library that is not installed: "
            'pip install "jaxgen[av]".'
        ) from error
    parts, size = [], 0
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.audio:
                raise DataError(f"{where} has no sound in it.")
            stream = container.streams.audio[0]
            floats = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                decoded = [part.to_ndarray() for part in floats.resample(frame)]
                parts += decoded
                size += sum(part.size for part in decoded)
                if size > most_samples:
                    break  # What is too many is told as of WAV files.
            length = stream.duration and float(stream.duration * stream.time_base)
            rate = int(stream.rate)
    except DataError:
        raise
    except Exception as error:  # FFmpeg's errors are of many kinds.
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{where} cannot be decoded: {reason}.") from error
    samples = np.concatenate(parts, axis=1).T if parts else np.zeros((0, 1), np.float32)
    if length and size <= most_samples and len(samples) / rate < 0.95 * length - 0.1:
        raise DataError(
            f"{where} is cut short: {len(samples) / rate:.2f} of {length:.2f} seconds are there."
        )
    return rate, samples


def _to_unit(samples: np.ndarray) -> np.ndarray:
    """Returns samples whose full scale is 1."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float64) - 128) / 128
    if samples.dtype.kind == "i":  # 24 bits come in the upper bytes of 32.
        return samples.astype(np.float64) / 2 ** (8 * samples.dtype.itemsize - 1)
    return samples.astype(np.float64)
