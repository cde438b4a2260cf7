"""Pictures and clips as sequences of patches, each a vector of its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgen.errors import DataError


def patches_of(clip: Any, size: tuple[int, int, int]) -> Any:
    """Cuts a clip into patches (tubelets, where they last several frames: 2103.15691, 3.2).

    Args:
      clip: [time, height, width, channels], of numpy or JAX; a picture has one frame.
      size: frames, rows and columns of a patch.

    Returns:
      [patches, frames * rows * columns * channels], by time, then from top to bottom and left to
      right; in each, likewise, the channels last.

    Raises:
      DataError: if patches of this size do not cover the clip.
    """
    *lengths, channels = clip.shape
    if any(length % part or not length for length, part in zip(lengths, size, strict=True)):
        raise DataError(
            f"a clip of {'x'.join(map(str, lengths))} (time, height, width) does not divide into "
            f"patches of {'x'.join(map(str, size))}: resize it, or choose another patch."
        )
    cut = [n for length, part in zip(lengths, size, strict=True) for n in (length // part, part)]
    parts = clip.reshape(*cut, channels).transpose(0, 2, 4, 1, 3, 5, 6)
    return parts.reshape(-1, size[0] * size[1] * size[2] * channels)


def clip_of(patches: Any, grid: tuple[int, int, int], size: tuple[int, int, int]) -> Any:
    """Returns the clip that `patches_of` cut.

    Args:
      patches: [patches, frames * rows * columns * channels].
      grid: how many patches lie along time, height and width.
      size: frames, rows and columns of a patch.

    Returns:
      [time, height, width, channels].
    """
    channels = patches.shape[-1] // (size[0] * size[1] * size[2])
    parts = patches.reshape(*grid, *size, channels).transpose(0, 3, 1, 4, 2, 5, 6)
    lengths = (count * part for count, part in zip(grid, size, strict=True))
    return parts.reshape(*lengths, channels)


def places_of(grid: tuple[int, int, int]) -> np.ndarray:
    """Returns where each patch lies: [patches, 3] int32, its time, row and column."""
    return np.stack(np.unravel_index(np.arange(np.prod(grid)), grid), axis=-1).astype(np.int32)
