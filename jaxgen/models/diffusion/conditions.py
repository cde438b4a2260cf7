"""What a denoiser reads of its conditioning, laid out on the mesh, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxgen.errors import DataError
from jaxgen.models.diffusion.base import Conditioning, DenoiserConfig
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


def with_image(config: DenoiserConfig, x: jax.Array, conditioning: Conditioning) -> jax.Array:
    """Returns x with the channels of the picture that is read beside it, if there is one.

    Raises:
      DataError: the configuration reads one, and there is none.
    """
    if not config.image_channels:
        return x
    if conditioning.image is None or conditioning.time is None:
        raise _lacking("image", f"image_channels={config.image_channels}", "a picture and its time")
    image = reshard(jnp.asarray(conditioning.image), spec("batch", None, None, None))
    return jnp.concatenate([x, image.astype(x.dtype)], axis=-1)


def pooled_of(config: DenoiserConfig, conditioning: Conditioning) -> jax.Array | None:
    """Returns the vector that joins the embedding of time, [batch, 1, pooled_dim].

    Raises:
      DataError: the configuration reads one, and there is none.
    """
    if config.pooled_dim is None:
        return None
    if conditioning.pooled is None:
        raise _lacking("pooled", f"pooled_dim={config.pooled_dim}", "a vector")
    pooled = jnp.asarray(conditioning.pooled)[:, None].astype(config.compute_dtype)
    return reshard(pooled, spec("batch", None, None))


def sequence_of(
    config: DenoiserConfig, conditioning: Conditioning
) -> tuple[jax.Array, jax.Array | None] | None:
    """Returns the vectors [batch, length, context_dim], and which of them are there.

    Raises:
      DataError: the configuration reads them, and there are none.
    """
    if config.context_dim is None:
        return None
    if conditioning.sequence is None:
        raise _lacking("sequence", f"context_dim={config.context_dim}", "a sequence of vectors")
    hidden = jnp.asarray(conditioning.sequence).astype(config.compute_dtype)
    return reshard(hidden, spec("batch", None, None)), conditioning.mask


def _lacking(field: str, setting: str, what: str) -> DataError:
    return DataError(
        f"the denoiser has {setting}, and Conditioning.{field} is None: give {what} for each row, "
        "or a denoiser that reads none."
    )
