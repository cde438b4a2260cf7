"""Media as vectors: an encoder of each, a projector, and the places of a row that they go to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.batch import Batch
from jaxgen.errors import DataError
from jaxgen.models.media_config import MediaInput, PatchesConfig
from jaxgen.models.parameters import freeze, gather, kernel, make_parameter, project
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.activations import activation
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import zeros
from jaxgen.ops.normalisation import rms_normalise
from jaxgen.ops.patches import image_patches
from jaxgen.ops.pixels import as_numbers
from jaxgen.ops.vectors import cells_of_runs, put_vectors
from jaxgen.sharding.layout import current_layout, spec, using
from jaxgen.sharding.rules import mesh_is_set, reshard


class Patches(nnx.Module):
    """Pixels between -1 and 1, patch by patch."""

    def __init__(self, config: PatchesConfig):
        self.config = config

    def features(self, media: jax.Array, key: Any = None, num_layers: Any = None) -> jax.Array:
        """Maps [batch, height, width, channels] uint8, or float32 as it is, to patches."""
        del key, num_layers
        if media.dtype == jnp.uint8:
            media = as_numbers(media)
        return image_patches(media, self.config.patch_size)


class MediaReader(nnx.Module):
    """Makes vectors of a modality's media, and says where in the rows they stand."""

    def __init__(self, config: MediaInput, stack: StackConfig, rngs: nnx.Rngs):
        """Makes the encoder, and the projector to the width of `stack`."""
        self.config = config
        self.stack = stack
        encoder = config.encoder.make(rngs)
        self.encoder = freeze(encoder) if config.frozen else encoder
        width, embed, projector = config.encoder.width, stack.embed_dim, config.projector
        start, axes = kernel(stack, width, embed, (None, "embed")), (None, "embed")

        def parameter(shape, axes, start, is_there):
            return make_parameter(rngs, shape, axes, start) if is_there else None

        is_deep, has_bias = projector.layers == 2, projector.bias
        self.norm = parameter((width,), (None,), zeros, projector.norm)
        self.first = make_parameter(rngs, (width, embed), axes, start)
        self.first_bias = parameter((embed,), ("embed",), zeros, has_bias)
        axes = ("embed", None)
        start = kernel(stack, embed, embed, axes)
        self.second = parameter((embed, embed), axes, start, is_deep)
        self.second_bias = parameter((embed,), (None,), zeros, is_deep and has_bias)

    def __call__(
        self, embedded: jax.Array, tokens: jax.Array, media: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """Returns embeddings in which vectors stand in place of those of the marking token.

        Args:
          embedded: [batch, length, embed], of the tokens.
          tokens: [batch, length] int32.
          media: [batch, media, ...], those of a row in the order of its tokens.
          key: of a training pass.
        """
        with using(current_layout().with_whole_length()):
            vectors = self.vectors(media, key).astype(embedded.dtype)
        return put_vectors(embedded, tokens == self.config.token, vectors)

    def vectors(self, media: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Maps [batch, media, ...] to their vectors, [batch, media * vectors, embed]."""
        config, dtype = self.config, self.stack.compute_dtype
        batch, count, *shape = media.shape
        media = reshaped_rows(media, batch * count, *shape)
        key = split(key, 1)[0] if config.differs_in_training else None
        hidden = self.encoder.features(media, key, config.layers_read)
        if config.frozen:
            hidden = jax.lax.stop_gradient(hidden)
        rows, columns = config.encoder.grid
        if not config.class_token:
            hidden = hidden[:, hidden.shape[1] - rows * columns :]
        if (pool := config.projector.pool) > 1:
            cut = (rows // pool, pool, columns // pool, pool, hidden.shape[-1])
            hidden = reshaped_rows(hidden, batch * count, *cut).mean(axis=(2, 4))
            hidden = reshaped_rows(hidden, batch * count, config.num_vectors, config.encoder.width)
        if self.norm is not None:
            normal = rms_normalise(hidden.astype(jnp.float32), config.projector.norm_epsilon)
            hidden = normal * (1 + gather(self.norm, jnp.float32))
        x = project(hidden.astype(dtype), self.first, self.first_bias)
        if self.second is not None:
            x = activation(config.projector.activation)(x)
            x = project(x, self.second, self.second_bias)
        return reshaped_rows(x, batch, count * config.num_vectors, self.stack.embed_dim)


def media_writer(
    readers: Iterable[MediaReader],
    tokens: jax.Array,
    media: Mapping[str, jax.Array],
    key: jax.Array | None,
) -> Callable[[jax.Array], jax.Array]:
    """Returns what writes the vectors of media over the embeddings of their tokens.

    Args:
      readers: of the model.
      tokens: [batch, length] int32.
      media: by modality [batch, media, ...].
      key: of a training pass.

    Raises:
      DataError: if there are media that the model does not read.
    """
    by_modality = {reader.config.modality: reader for reader in readers}
    if unread := sorted(set(media) - set(by_modality)):
        raise DataError(
            f"the batch has {unread} as vectors, and the model reads {sorted(by_modality)}; give "
            "model.media an input of each, or use codecs of codes."
        )

    def write(embedded: jax.Array) -> jax.Array:
        for name, array in media.items():
            array = reshard(jnp.asarray(array), spec("batch"))
            # Devices that are simulated by threads can wait for one another in collectives of
            # branches that do not depend on one another.
            embedded, array = jax.lax.optimization_barrier((embedded, array))
            embedded = by_modality[name](embedded, tokens, array, key)
        return embedded

    return write


def cells_of(batch: Batch, inputs: Sequence[MediaInput]) -> jax.Array:
    """Returns what each token is of and where it lies, [batch, length, 4] int32; 0 for text.

    A batch that does not say it has its vectors found by their tokens.
    """
    if batch.modalities is not None and batch.places is not None:
        return jnp.concatenate([batch.modalities[..., None], batch.places], axis=-1)
    cells = jnp.zeros_like(batch.positions)[..., None] + jnp.zeros(4, jnp.int32)
    for number, one in enumerate(inputs, start=1):
        height = one.num_vectors // one.width
        found = cells_of_runs(batch.tokens == one.token, number, height, one.width)
        cells = jnp.where(*found, cells)
    return cells


def reshaped_rows(x: jax.Array, *shape: int) -> jax.Array:
    """Returns an array of another shape whose first axis is split as a batch is."""
    if not mesh_is_set():
        return x.reshape(shape)
    layout = spec("batch", *[None] * (len(shape) - 1))
    return jax.lax.reshape(reshard(x, spec("batch")), shape, out_sharding=layout)


def count_media(config: MediaInput, embed: int) -> int:
    """Returns the exact number of parameters of a reader of media for a stream of this width."""
    width, projector = config.encoder.width, config.projector
    own = width * embed + projector.norm * width + projector.bias * embed
    if projector.layers == 2:
        own += embed * embed + projector.bias * embed
    return config.encoder.size()[0] + own


def media_flops(config: MediaInput, embed: int) -> tuple[int, int]:
    """Returns the operations of a forward pass for one picture or sound: encoder's, projector's."""
    projector = config.projector
    weights = config.encoder.width * embed + (embed * embed if projector.layers == 2 else 0)
    encoder = config.encoder.forward_flops(config.layers_read)
    return encoder, 2 * config.num_vectors * weights
