"""Pictures as rows of patches and back, and the fixed positions of these."""

from __future__ import annotations

import jax
import numpy as np

from jaxgen.ops.convolution import out_of_patches
from jaxgen.ops.patches import reshape_rows


def picture_of_patches(patches: jax.Array, side: int, patch_size: int) -> jax.Array:
    """Maps [batch, side * side, patch_size^2 * channels] to [batch, height, width, channels].

    It undoes `ops.patches.image_patches`.
    """
    batch, _, width = patches.shape
    return out_of_patches(reshape_rows(patches, batch, side, side, width), patch_size)


def grid_waves(side: int, dim: int, scale: float = 1.0) -> np.ndarray:
    """Returns fixed positions of a square grid, [side * side, dim] float32 (MAE, 2111.06377).

    The first half of the width are sines and cosines of a patch's column, the second of its row.

    Args:
      side: rows and columns.
      dim: a multiple of 4.
      scale: on rows and columns, as where the grid is of another size than the base's.
    """
    frequencies = 10_000.0 ** (-np.arange(dim // 4) / (dim / 4))
    angles = (np.arange(side) * scale)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    columns = np.broadcast_to(waves[None], (side, side, dim // 2))
    rows = np.broadcast_to(waves[:, None], (side, side, dim // 2))
    return np.concatenate([columns, rows], axis=-1).reshape(side * side, dim).astype(np.float32)
