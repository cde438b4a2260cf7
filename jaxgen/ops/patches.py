"""Images as rows of patches, on devices."""

from __future__ import annotations

import jax

from jaxgen.sharding.rules import mesh_is_set


def image_patches(images: jax.Array, size: int) -> jax.Array:
    """Maps [batch, height, width, channels] to [batch, patches, size * size * channels].

    Patches go from left to right and top to bottom, and so do the pixels of each, the channels last
    (`codecs.patches.patches_of` cuts a clip on the host likewise). Only the batch may be split over
    devices; rows and columns beyond the last whole patch are left out.
    """
    images = images[:, : images.shape[1] // size * size, : images.shape[2] // size * size]
    batch, height, width, channels = images.shape
    cut = reshape_rows(images, batch, height // size, size, width // size, size, channels)
    patches = (height // size) * (width // size)
    return reshape_rows(cut.transpose(0, 1, 3, 2, 4, 5), batch, patches, size * size * channels)


def reshape_rows(x: jax.Array, *shape: int) -> jax.Array:
    """Returns an array of another shape, of which devices split the first axis alone."""
    rows = jax.typeof(x).sharding.spec[0] if mesh_is_set() else None
    layout = jax.P(rows, *[None] * (len(shape) - 1)) if mesh_is_set() else None
    return jax.lax.reshape(x, shape, out_sharding=layout)
