"""Pictures made larger or smaller by two matrices, one along rows and one along columns."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@functools.cache
def resizing_matrix(size: int, new: int) -> np.ndarray:
    """Returns the weights [new, size] of linear interpolation between the middles of pixels.

    Made smaller, each pixel is a mean under a triangle as wide as two new ones, so that nothing is
    left out; the rows add to 1.
    """
    factor = size / new
    width = max(factor, 1.0)
    middles = (np.arange(new) + 0.5) * factor - 0.5
    distances = np.abs(np.arange(size)[None] - middles[:, None]) / width
    weights = np.maximum(1 - distances, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def resize(images: Any, new: int) -> Any:
    """Returns square pictures [batch, size, size, channels] as [batch, new, new, channels].

    Those of numpy stay on the host.
    """
    size = images.shape[1]
    if size == new:
        return images
    xp = jnp if isinstance(images, jax.Array) else np
    matrix = xp.asarray(resizing_matrix(size, new), images.dtype)
    rows = xp.einsum("bhwc,nh->bnwc", images, matrix)
    return xp.einsum("bnwc,mw->bnmc", rows, matrix)
