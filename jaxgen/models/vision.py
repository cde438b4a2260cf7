"""The vision encoder: patches of an image, a stack over them, and pooling (ViT, 2010.11929)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, kernel, make_parameter
from jaxgen.models.pooling import AttentionPool, mean
from jaxgen.models.stack import Stack
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.towers import run_tower
from jaxgen.ops.attention.masks import looks_ahead
from jaxgen.ops.initializers import normal, zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.patches import image_patches
from jaxgen.sharding.layout import current_layout, spec, using


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A vision transformer: what it reads, its stack, and how a row of patches becomes one vector.

    Attributes:
      stack: the blocks, whose layers must be bidirectional.
      image_size: rows and columns of an image.
      patch_size: rows and columns of a patch; pixels beyond the last whole one are not read.
      channels: of an image.
      patch_bias: whether the patches' projection has a bias.
      class_token: whether a learned token stands before the patches.
      embedding_norm: whether patches and positions are normalised before the first block (CLIP).
      pooling: "class_token"; "attention", a learned query with a feed-forward (SigLIP); "mean";
        None: the hidden states are all there is.
      pixel_mean: of each channel, taken from pixels between 0 and 1.
      pixel_stddev: of each channel, which they are then divided by.
    """

    stack: StackConfig
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 16
    channels: PositiveInt = 3
    patch_bias: bool = True
    class_token: bool = False
    embedding_norm: bool = False
    pooling: Literal["class_token", "attention", "mean"] | None = None
    pixel_mean: tuple[Annotated[float, Domain(-1000, 1000)], ...] = (0.5, 0.5, 0.5)
    pixel_stddev: tuple[PositiveFloat, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        check_domains(self, "vision")
        if self.image_size < self.patch_size:
            raise ConfigError(
                f"vision.image_size={self.image_size} has no room for a patch of "
                f"vision.patch_size={self.patch_size}."
            )
        if self.pooling == "class_token" and not self.class_token:
            raise ConfigError("vision.pooling='class_token' needs vision.class_token=True.")
        if not {len(self.pixel_mean), len(self.pixel_stddev)} <= {1, self.channels}:
            raise ConfigError(
                f"vision.pixel_mean and pixel_stddev need one number, or one for each of "
                f"vision.channels={self.channels}; they are {self.pixel_mean} and "
                f"{self.pixel_stddev}."
            )
        if not all(looks_ahead(layer.mask) for layer in self.stack.kinds_of_layers):
            raise ConfigError(
                "the layers of vision.stack are causal, and patches have no order in time; set "
                "layer.mask=(@bidirectional(),)."
            )
        if self.stack.moe is not None:
            raise ConfigError(
                "vision.stack.moe has losses of its router, which no objective adds for an encoder "
                "of media; leave it out."
            )

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tokens(self) -> int:
        """Tokens that the stack reads of an image."""
        return self.num_patches + self.class_token

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Height, width and channels of an image."""
        return self.image_size, self.image_size, self.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def width(self) -> int:
        """Width of a hidden state."""
        return self.stack.embed_dim

    @property
    def num_layers(self) -> int:
        """Blocks of the stack."""
        return self.stack.num_layers

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use."""
        return self.stack.differs_in_training

    def make(self, rngs: nnx.Rngs) -> VisionEncoder:
        """Returns the encoder."""
        return VisionEncoder(self, rngs)

    def size(self) -> tuple[int, int]:
        """Returns the exact number of parameters, and that of the position table among them."""
        from jaxgen.models.vision_counting import count_vision

        return count_vision(self)

    def forward_flops(self, num_layers: int | None = None) -> int:
        """Returns the operations of the matrix products for an image, of so many blocks or all."""
        from jaxgen.models.vision_counting import vision_flops

        if num_layers is None:
            return vision_flops(self)
        stack = dataclasses.replace(self.stack, num_layers=num_layers)
        return vision_flops(dataclasses.replace(self, stack=stack, pooling=None))


class VisionOutput(NamedTuple):
    """A vision encoder's output.

    Attributes:
      hidden: [batch, tokens, embed] after the last norm, the class token first.
      pooled: [batch, 1, embed]; None without pooling.
    """

    hidden: Any
    pooled: Any


class VisionEncoder(nnx.Module):
    """Images to hidden states and one vector each; part of a model, which owns the layout.

    A row of patches is whole on each device: the length is not split.
    """

    def __init__(self, config: VisionConfig, rngs: nnx.Rngs):
        self.config = config
        stack, size, embed = config.stack, config.patch_size, config.stack.embed_dim
        table, axes = normal(stack.initialization.embedding_stddev), (None, None, None, "embed")
        self.patches = make_parameter(
            rngs,
            (size, size, config.channels, embed),
            axes,
            kernel(stack, config.patch_width, embed, axes[2:]),
        )
        self.patch_bias = (
            make_parameter(rngs, (embed,), ("embed",), zeros) if config.patch_bias else None
        )
        self.class_token = (
            make_parameter(rngs, (embed,), ("embed",), table) if config.class_token else None
        )
        self.positions = make_parameter(rngs, (config.num_tokens, embed), (None, "embed"), table)
        self.embedding_norm = Norm(stack, rngs) if config.embedding_norm else None
        self.stack = Stack(stack, rngs)
        self.pool = AttentionPool(stack, rngs) if config.pooling == "attention" else None

    def __call__(self, images: jax.Array, key: jax.Array | None = None) -> VisionOutput:
        """Encodes images.

        Args:
          images: [batch, image_size, image_size, channels]; uint8, or float32 with the mean and
            the standard deviation of pixels taken out already.
          key: of a training pass.
        """
        with using(current_layout().with_whole_length()):
            return self._encode(images, key if self.config.stack.differs_in_training else None)

    def features(
        self, media: jax.Array, key: jax.Array | None = None, num_layers: int | None = None
    ) -> jax.Array:
        """Returns the hidden states after so many blocks; see `MediaEncoderConfig.make`."""
        with using(current_layout().with_whole_length()):
            return self._hidden(media, key, num_layers)[0]

    def _encode(self, images: jax.Array, key: jax.Array | None) -> VisionOutput:
        config = self.config
        hidden, segment_ids = self._hidden(images, key)
        if config.pooling == "class_token":
            return VisionOutput(hidden, hidden[:, :1])
        if self.pool is not None:
            return VisionOutput(hidden, self.pool(hidden, segment_ids))
        return VisionOutput(hidden, mean(hidden) if config.pooling == "mean" else None)

    def _hidden(
        self, images: jax.Array, key: jax.Array | None, num_layers: int | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the hidden states, and segment ids of them."""
        return run_tower(self.stack, self._embed(images), key, num_layers)

    def _embed(self, images: jax.Array) -> jax.Array:
        """Returns what the stack reads, [batch, tokens, embed] in the compute dtype."""
        config, dtype = self.config, self.config.stack.compute_dtype
        if images.dtype == jnp.uint8:
            average, spread = (jnp.array(x) for x in (config.pixel_mean, config.pixel_stddev))
            images = (images.astype(jnp.float32) / 255 - average) / spread
        patches = image_patches(images.astype(dtype), config.patch_size)
        weight = gather(self.patches, dtype).reshape(config.patch_width, -1)
        x = linear("btd,de->bte", patches, weight, spec("batch", None, None))
        if self.patch_bias is not None:
            x = x + gather(self.patch_bias, dtype)
        table = gather(self.positions, dtype)
        if self.class_token is not None:
            x = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))
            table = table.at[0].add(gather(self.class_token, dtype))
        x = x + table
        return x if self.embedding_norm is None else self.embedding_norm(x)
