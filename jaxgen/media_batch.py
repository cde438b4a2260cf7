"""The batch of media: what passes from the data room to models of pictures or sounds alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError

RowArray = Annotated[Any, ("batch",)]
"""An array with one entry, of any shape, for each row; see `batch.TokenArray`."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MediaBatch:
    """Pictures of one size, or sounds of one length.

    Attributes:
      values: uint8 [batch, height, width, channels], or float32 [batch, samples] in [-1, 1].
    """

    values: RowArray


def media_batch_spec(batch_size: int, shape: tuple[int, ...]) -> MediaBatch:
    """Returns the shapes of rows of media.

    Raises:
      ConfigError: if the shape is neither a picture's nor a sound's.
    """
    if len(shape) not in (1, 3):
        raise ConfigError(
            f"a row of media of shape {shape} is neither a picture (height, width, channels) nor a "
            "sound (samples,): give three numbers or one."
        )
    dtype = jnp.uint8 if len(shape) == 3 else jnp.float32
    return MediaBatch(jax.ShapeDtypeStruct((batch_size, *shape), dtype))
