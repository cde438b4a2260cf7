"""The contrastive pair: a text tower and a vision tower into one space (CLIP, SigLIP)."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.batch import Batch
from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.models.base import ParameterCount
from jaxgen.models.config import ModelCard, TransformerConfig
from jaxgen.models.parameters import kernel, make_parameter, project
from jaxgen.models.pooling import take
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.transformer import Transformer
from jaxgen.models.vision import VisionConfig, VisionEncoder
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import Initializer, zeros
from jaxgen.pair_batch import PairBatch, pair_batch_spec
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import Layout, spec, under_layout, using
from jaxgen.sharding.rules import num_parts, reshard

Projection = Literal["linear", "affine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Two towers, projected into one space, whose inner products are the logits of a pair.

    Attributes:
      text: the text tower, a transformer without a head.
      vision: the vision tower, which must pool.
      embed_dim: width of the shared space.
      text_pooling: "end_token", what the caption's last token has read (CLIP), or "last_token", the
        row's, which reads the padding like the text (SigLIP).
      text_projection: "linear", a matrix; "affine", with a bias; None: the tower's width is the
        space's.
      image_projection: likewise.
      initial_scale: of the logits, learned as its logarithm.
      max_scale: what training leaves the scale at, if it would grow beyond; None: no bound.
      initial_bias: of the logits, learned; None: they have none. The sigmoid loss needs one.
      card: what was published of the model; no part of what it computes.
    """

    text: TransformerConfig
    vision: VisionConfig
    embed_dim: PositiveInt
    text_pooling: Literal["end_token", "last_token"] = "end_token"
    text_projection: Projection | None = "linear"
    image_projection: Projection | None = "linear"
    initial_scale: PositiveFloat = 1 / 0.07
    max_scale: PositiveFloat | None = 100.0
    initial_bias: Annotated[float, Domain(-1000, 1000)] | None = None
    card: ModelCard | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        check_domains(self, "dual_encoder")
        text, vision = self.text, self.vision.stack
        for name, projection, width in (
            ("text_projection", self.text_projection, text.embed_dim),
            ("image_projection", self.image_projection, vision.embed_dim),
        ):
            if projection is None and width != self.embed_dim:
                raise ConfigError(
                    f"dual_encoder.{name}=None needs a tower of the space's width: it has {width}, "
                    f"and dual_encoder.embed_dim={self.embed_dim}; set it to 'linear'."
                )
        if self.vision.pooling is None:
            raise ConfigError(
                "dual_encoder.vision has no pooling, and a pair compares one vector of an image; "
                "set vision.pooling, such as to 'attention'."
            )
        for name, stack in (("text", text), ("vision.stack", vision)):
            self._check_tower(name, stack)
        self._check_has_no_head(text)

    def _check_has_no_head(self, text: TransformerConfig) -> None:
        unlike = {
            "num_encoder_layers": text.num_encoder_layers,
            "encoder": text.encoder,
            "table_dim": text.table_dim,
            "mtp_depth": text.mtp_depth,
            "output_transform": text.output_transform,
            "pooler": text.pooler,
            "tie_embeddings=False": not text.tie_embeddings,
            "biases of 'logits'": text.has_bias("logits"),
        }
        if found := [name for name, value in unlike.items() if value]:
            raise ConfigError(
                f"dual_encoder.text is a stack over tokens, without encoder and head; leave out "
                f"{', '.join(found)}."
            )

    def _check_tower(self, name: str, stack: StackConfig) -> None:
        if stack.parametrization is not None:
            raise ConfigError(
                f"dual_encoder.{name}.parametrization has one width, and a pair has two; leave it "
                "out."
            )
        if stack.moe is not None:
            raise ConfigError(
                f"dual_encoder.{name}.moe has losses of its router, which no contrastive objective "
                "adds; leave it out."
            )

    def build(self, rngs: nnx.Rngs, layout: Layout) -> DualEncoder:
        """Returns the model."""
        return DualEncoder(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters; a pair is read by all of them."""
        from jaxgen.models.vision_counting import count_vision

        text = self.text.count()
        vision, positions = count_vision(self.vision)
        total = text.total + vision + self._projections + 1 + (self.initial_bias is not None)
        return ParameterCount(total=total, active=total, embedding=text.embedding + positions)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a caption of `length`, its image's share."""
        del source_length
        from jaxgen.models.vision_counting import stack_flops_per_token, vision_flops

        forward = length * stack_flops_per_token(self.text, length)
        forward += vision_flops(self.vision) + 2 * self._projections
        return round(3 * forward / length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> PairBatch:
        """Returns the shapes of the pairs that the model reads.

        Raises:
          ConfigError: for captions longer than the text tower's positions, or with a source.
        """
        if source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder; leave it out."
            )
        self.text.batch_spec(batch_size=batch_size, length=length)
        size = self.vision.image_size
        return pair_batch_spec(batch_size, length, (size, size, self.vision.channels))

    @property
    def vocab_size(self) -> int:
        """The text tower's."""
        return self.text.vocab_size

    @property
    def max_length(self) -> int | None:
        """The most tokens of a caption."""
        return self.text.max_length

    @property
    def _projections(self) -> int:
        """Parameters of the projections."""
        return sum(
            width * self.embed_dim + self.embed_dim * (kind == "affine")
            for kind, width in (
                (self.text_projection, self.text.embed_dim),
                (self.image_projection, self.vision.stack.embed_dim),
            )
            if kind is not None
        )

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use, by dropout."""
        return self.text.differs_in_training or self.vision.stack.differs_in_training


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
        if (parts := num_parts(axis_names(layout.rules.length))) > 1:
            raise ShardingError(
                f"the mesh splits the length of rows into {parts} (mesh.sequence), and the rows of "
                "a contrastive pair are short and whole; set mesh.sequence=1 and give the devices "
                "to mesh.data or mesh.fsdp."
            )
        self.layout = layout.with_whole_length()
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
        tokens = reshard(jnp.asarray(tokens), spec("batch", None))
        lengths = reshard(jnp.asarray(lengths), spec("batch"))
        positions = jnp.zeros_like(tokens) + jnp.arange(tokens.shape[1], dtype=tokens.dtype)
        is_last = self.config.text_pooling == "last_token"
        segment_ids = jnp.ones_like(tokens)
        if not is_last:
            segment_ids = (positions < lengths[:, None]).astype(tokens.dtype)
        nothing = jnp.zeros_like(tokens)
        weights = nothing.astype(jnp.float32)
        batch = Batch(tokens, tokens, weights, positions, segment_ids, nothing)
        hidden = self.text(batch, key=key).hidden
        pooled = hidden[:, -1:] if is_last else take(hidden, lengths - 1)
        return _unit(pooled, self.text_projection)

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
