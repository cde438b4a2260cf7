"""Convolutions and changes of resolution over one axis (sounds) or two (pictures)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgen.ops.patches import reshape_rows

Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]
_FORMS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def convolve(
    x: jax.Array, weight: jax.Array, stride: int = 1, padding: Padding = "SAME"
) -> jax.Array:
    """Returns the convolution of [batch, *lengths, in] by [*sizes, in, out].

    Args:
      x: with one axis of length or two.
      weight: as many sizes, then the channels.
      stride: along every length.
      padding: "SAME", with zeros, or "VALID"; or the zeros before and after each length.
    """
    axes = weight.ndim - 2
    return jax.lax.conv_general_dilated(
        x, weight, (stride,) * axes, padding, dimension_numbers=_FORMS[axes]
    )


def max_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Returns the largest of each `size` places along every length of [batch, *lengths, channels].

    Lengths must divide.
    """
    window = (1, *[size] * (x.ndim - 2), 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def average_pool(x: jax.Array, size: int = 2) -> jax.Array:
    """Returns the mean of each `size` places along every length of [batch, *lengths, channels].

    Lengths must divide.
    """
    lengths = x.shape[1:-1]
    cut = [part for length in lengths for part in (length // size, size)]
    parts = reshape_rows(x, x.shape[0], *cut, x.shape[-1])
    return jnp.mean(parts, axis=tuple(range(2, 2 * len(lengths) + 1, 2)))


def repeat(x: jax.Array, size: int = 2) -> jax.Array:
    """Returns every place `size` times along every length: nearest-neighbour upsampling."""
    for axis in range(1, x.ndim - 1):
        x = jnp.repeat(x, size, axis=axis)
    return x


def into_patches(x: jax.Array, size: int) -> jax.Array:
    """Returns [batch, height, width, channels] with squares of pixels as channels of one place."""
    batch, height, width, channels = x.shape
    rows, columns = height // size, width // size
    cut = reshape_rows(x, batch, rows, size, columns, size, channels)
    return reshape_rows(cut.transpose(0, 1, 3, 2, 4, 5), batch, rows, columns, size**2 * channels)


def out_of_patches(x: jax.Array, size: int) -> jax.Array:
    """Undoes `into_patches`."""
    batch, rows, columns, width = x.shape
    channels = width // size**2
    cut = reshape_rows(x, batch, rows, columns, size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return reshape_rows(cut, batch, rows * size, columns * size, channels)


def overlap_add(frames: jax.Array, hop: int) -> jax.Array:
    """Returns the sum of frames, each laid `hop` samples after the one before.

    Args:
      frames: [batch, frames, window], `hop` dividing the window.
      hop: samples from one frame to the next.

    Returns:
      [batch, (frames - 1) * hop + window].
    """
    batch, count, window = frames.shape
    times = window // hop
    parts = reshape_rows(frames, batch, count, times, hop)
    shifted: Sequence[jax.Array] = [
        jnp.pad(parts[:, :, place], ((0, 0), (place, times - 1 - place), (0, 0)))
        for place in range(times)
    ]
    return reshape_rows(sum(shifted[1:], shifted[0]), batch, (count + times - 1) * hop)
