"""Small contrastive pairs and batches of them that several tests share."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import Text
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.dual_encoder import DualEncoder
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.pair_batch import PairBatch
from jaxgen.sharding.layout import Layout

CAUSAL = (LayerConfig(rope=None),)
BOTH_WAYS = (LayerConfig(mask=(Bidirectional(),), rope=None),)
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "embed_dim": 32,
    "num_heads": 4,
    "mlp_dim": 64,
    "norm": "layer",
    "gated": False,
    "biases": ("qkv", "attention_out", "feed_forward", "norm"),
}
TEXT: dict[str, Any] = {"vocab_size": 64, "max_length": 12, "embedding_positions": "learned"}


def tiny_clip(**changes: Any) -> DualEncoderConfig:
    """CLIP's form: class token, end token, projections without biases."""
    sizes: dict[str, Any] = SIZES | {"activation": "quick_gelu"}
    config = DualEncoderConfig(
        text=TransformerConfig(**sizes, **TEXT, layers=CAUSAL),
        vision=VisionConfig(
            stack=StackConfig(**sizes, layers=BOTH_WAYS),
            image_size=16,
            patch_size=4,
            patch_bias=False,
            class_token=True,
            embedding_norm=True,
            pooling="class_token",
        ),
        embed_dim=24,
    )
    return dataclasses.replace(config, **changes)


def tiny_siglip(**changes: Any) -> DualEncoderConfig:
    """SigLIP's form: attention pooling, the row's last token, a bias on the logits."""
    sizes: dict[str, Any] = SIZES | {"activation": "gelu_tanh", "layers": BOTH_WAYS}
    config = DualEncoderConfig(
        text=TransformerConfig(**sizes, **TEXT),
        vision=VisionConfig(
            stack=StackConfig(**sizes), image_size=16, patch_size=4, pooling="attention"
        ),
        embed_dim=32,
        text_pooling="last_token",
        text_projection="affine",
        image_projection=None,
        initial_scale=10.0,
        max_scale=None,
        initial_bias=-10.0,
    )
    return dataclasses.replace(config, **changes)


PAIRS = {"clip": tiny_clip(), "siglip": tiny_siglip()}


def random_pairs(config: DualEncoderConfig, batch_size: int = 8, seed: int = 0) -> PairBatch:
    """Random images, and captions of random lengths."""
    random = np.random.default_rng(seed)
    size, length = config.vision.image_size, config.text.max_length or 12
    lengths = random.integers(2, length + 1, batch_size).astype(np.int32)
    tokens = random.integers(1, config.vocab_size, (batch_size, length)).astype(np.int32)
    tokens[np.arange(length) >= lengths[:, None]] = 0
    images = random.integers(0, 256, (batch_size, size, size, 3)).astype(np.uint8)
    return PairBatch(images, tokens, lengths)


def build_pair(config: DualEncoderConfig, layout: Layout = Layout(), seed: int = 0) -> DualEncoder:
    """The model under the mesh in force."""
    return jax.jit(lambda: DualEncoder(config, nnx.Rngs(seed), layout))()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Angles:
    """Pictures of grey g and texts that begin with byte g have one direction, of the angle g."""

    unit: jax.Array
    layout: Layout = dataclasses.field(default=Layout(), metadata={"static": True})

    def encode_images(self, images):
        return self._vectors(images[:, 0, 0, 0])

    def encode_texts(self, tokens, lengths):
        return self._vectors(tokens[:, 1])

    def _vectors(self, numbers):
        angle = self.unit * numbers.astype(jnp.float32)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Letters(ImageTextPairs):
    """Pictures of grey 97 to 106 beside the letters a to j, each twice."""

    def examples(self, count, seed, split="heldout"):
        greys = [97 + place // 2 for place in range(20)]
        pictures = [np.full((4, 4, 3), grey, np.uint8) for grey in greys]
        return [{"image": one, "caption": chr(one[0, 0, 0])} for one in pictures][:count]


LETTERS = Letters(Task("t", StandardLibraryProse(), Text(), ByteCodec()), image_size=4)
