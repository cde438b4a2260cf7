"""Pixels as numbers from -1 to 1 and back; of numpy's arrays, and of those on devices."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_numbers(pixels: Any) -> Any:
    """Returns uint8 as float32 from -1 to 1."""
    return pixels.astype(np.float32) / 127.5 - 1


def as_pixels(pictures: np.ndarray) -> np.ndarray:
    """Returns numbers from -1 to 1 as uint8; others are cut off."""
    return (np.clip(pictures * 0.5 + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)
