"""A small model for text and pictures, and rows for it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.media_config import MediaInput
from jaxgen.models.noisy_patches import NoisyPatchesConfig
from jaxgen.models.transfusion_config import TransfusionConfig
from jaxgen.ops.attention.grids import SamePicture
from jaxgen.ops.attention.masks import Causal
from jaxgen.ops.positions import Rope

PATCH, BEGIN, END = 60, 61, 62


def tiny_transfusion(**changes: Any) -> TransfusionConfig:
    """Pictures of 4 x 4 in four patches."""
    encoder = NoisyPatchesConfig(image_size=4, patch_size=2, channels=3, time_dim=8)
    fields: dict[str, Any] = {
        "num_layers": 2, "embed_dim": 32, "num_heads": 4, "mlp_dim": 64, "vocab_size": 64,
        "layers": (LayerConfig(mask=(Causal() | SamePicture(2, 2),), rope=Rope()),),
        "media": (MediaInput(encoder=encoder, token=PATCH),),
    }  # fmt: skip
    return TransfusionConfig(TransformerConfig(**fields | changes))


def rows(batch: int = 4) -> Batch:
    """Rows of 24: a caption with its picture, to draw, then a picture with its caption."""
    random = np.random.default_rng(0)
    picture = [BEGIN, PATCH, PATCH, PATCH, PATCH, END]
    tokens = random.integers(1, 50, (batch, 24)).astype(np.int32)
    tokens[:, 4:10], tokens[:, 13:19] = picture, picture
    segments = np.repeat([[1] * 12 + [2] * 10 + [0] * 2], batch, axis=0).astype(np.int32)
    positions = np.concatenate([np.arange(12), np.arange(10), np.zeros(2)]).astype(np.int32)
    targets = np.roll(tokens, -1, axis=1)
    weights = np.zeros((batch, 24), np.float32)
    weights[:, 3] = 1  # That a picture begins.
    weights[:, 18:21] = 1
    pixels = random.integers(0, 256, (batch, 3, 4, 4, 3)).astype(np.uint8)
    return Batch(
        jnp.asarray(tokens), jnp.asarray(targets), jnp.asarray(weights),
        jnp.broadcast_to(positions, tokens.shape), jnp.asarray(segments),
        jnp.zeros_like(segments), media={"image": jnp.asarray(pixels)},
    )  # fmt: skip
