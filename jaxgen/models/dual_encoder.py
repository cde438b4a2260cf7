"""The contrastive pair: a text tower and a vision tower into one space (CLIP, SigLIP)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.captions import caption_rows
from jaxgen.models.dual_encoder_config import DualEncoderConfig, Projection
from jaxgen.models.parameters import kernel, make_parameter, project
from jaxgen.models.pooling import take
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.transformer import Transformer
from jaxgen.models.vision import VisionEncoder
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import Initializer, zeros
from jaxgen.pair_batch import PairBatch
from jaxgen.sharding.layout import Layout, spec, under_layout, using
from jaxgen.sharding.rules import reshard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairOutput:
    """What a contrastive pair gives for a batch; all float32.

    The logit of image i and text j is scale * images[i] @ texts[j] + bias.

    Attributes:
      images: [batch, embed] of length 1.
      texts: [batch, embed] of length 1.
      scale: scalar.
      bias: scalar; 0 where the model has none.
    """

    images: Any
    texts: Any
    scale: Any
    bias: Any


class DualEncoder(nnx.Module):
    """A text tower and a vision tower; the model alone owns the layout.

    Captions and rows of patches are whole on each device: a mesh axis that splits the length of
    other models has nothing to split here.
    """

    def __init__(self, config: DualEncoderConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout.of_whole_rows("the rows of a contrastive pair are short and")
        with using(self.layout):
            self.text = Transformer(config.text, rngs, self.layout)
            self.vision = VisionEncoder(config.vision, rngs)
            self.text_projection = _projection(config, config.text, config.text_projection, rngs)
            self.image_projection = _projection(
                config, config.vision.stack, config.image_projection, rngs
            )
            start = _constant(math.log(config.initial_scale))
            self.log_scale = make_parameter(rngs, (), (), start)
            self.bias = (
                None
                if config.initial_bias is None
                else make_parameter(rngs, (), (), _constant(config.initial_bias))
            )

    def __call__(self, batch: PairBatch, key: jax.Array | None = None) -> PairOutput:
        """Encodes pairs; `key` is of a training pass."""
        text_key, vision_key = split(key if self.config.differs_in_training else None, 2)
        images = self.encode_images(batch.images, vision_key)
        texts = self.encode_texts(batch.tokens, batch.lengths, text_key)
        bias = jnp.zeros(()) if self.bias is None else self.bias[...]
        return PairOutput(images, texts, jnp.exp(self.log_scale[...]), bias)

    @under_layout
    def encode_images(self, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns [batch, embed] float32 of length 1; see `VisionEncoder` for the images."""
        images = reshard(jnp.asarray(images), spec("batch", None, None, None))
        return _unit(self.vision(images, key).pooled, self.image_projection)

    @under_layout
    def encode_texts(
        self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns [batch, embed] float32 of length 1; see `PairBatch` for tokens and lengths."""
        hidden = self.text_states(tokens, lengths, key)
        if self.config.text_pooling == "last_token":
            return _unit(hidden[:, -1:], self.text_projection)
        lengths = reshard(jnp.asarray(lengths), spec("batch"))
        return _unit(take(hidden, lengths - 1), self.text_projection)

    @under_layout
    def text_states(
        self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns [batch, length, width], the text tower's hidden states before its projection."""
        tokens = reshard(jnp.asarray(tokens), spec("batch", None))
        lengths = reshard(jnp.asarray(lengths), spec("batch"))
        batch = caption_rows(tokens, lengths, self.config.text_pooling != "last_token")
        return self.text(batch, key=key).hidden

    def with_layout(self, layout: Layout) -> DualEncoder:
        """Returns the same parameters as a model of another layout; this one stays as it is."""
        model = jax.tree.map(lambda leaf: leaf, self)
        model.layout = layout.with_whole_length()
        model.text = model.text.with_layout(model.layout)
        return model

    def after_update(self, metrics: dict[str, Any]) -> DualEncoder:
        """Returns the model after what an optimiser's step does not do: bounding the scale."""
        del metrics
        if self.config.max_scale is None:
            return self
        model = self.with_layout(self.layout)
        bound = math.log(self.config.max_scale)
        model.log_scale = model.log_scale.replace(jnp.minimum(model.log_scale[...], bound))
        return model


class _Projected(nnx.Module):
    """A matrix into the shared space, perhaps with a bias."""

    def __init__(self, width: int, config: DualEncoderConfig, start: Initializer, has_bias, rngs):
        shape, axes = (width, config.embed_dim), ("embed", None)
        self.weight = make_parameter(rngs, shape, axes, start)
        self.bias = make_parameter(rngs, shape[1:], (None,), zeros) if has_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        return project(x, self.weight, self.bias)


def _projection(
    config: DualEncoderConfig, stack: StackConfig, kind: Projection | None, rngs: nnx.Rngs
) -> _Projected | None:
    if kind is None:
        return None
    start = kernel(stack, stack.embed_dim, config.embed_dim, ("embed", None))
    return _Projected(stack.embed_dim, config, start, kind == "affine", rngs)


def _unit(pooled: jax.Array, projection: _Projected | None) -> jax.Array:
    """Maps [batch, 1, width] to [batch, embed] float32 of length 1."""
    x = (pooled if projection is None else projection(pooled))[:, 0].astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


def _constant(value: float) -> Initializer:
    def initialize(key, shape, out_sharding):
        del key
        return jnp.full(shape, value, jnp.float32, out_sharding=out_sharding)

    return initialize
