"""Small autoencoders and rows for them that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxgen.media_batch import MediaBatch
from jaxgen.models.autoencoder_config import AutoencoderConfig
from jaxgen.models.base import ModelConfig
from jaxgen.models.bottleneck import FiniteScalar, GumbelCodebook
from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
from jaxgen.sharding.layout import Layout

SMALL: dict[str, Any] = {"hidden": 16, "groups": (1, 2), "blocks": 1, "decoder_input": 8}
AUTOENCODERS: dict[str, AutoencoderConfig] = {
    "fsq": ImageAutoencoderConfig(
        **SMALL, height=8, width=16, patch=2, first_kernel=3, bottleneck=FiniteScalar((5, 4, 3))
    ),
    "dvae": ImageAutoencoderConfig(
        **SMALL, height=8, width=8, bottleneck=GumbelCodebook(24), output="logit_laplace",
        margin=0.1,
    ),
    "sound": SoundAutoencoderConfig(
        **SMALL, samples=128, hop=8, window=24, codes_per_frame=2, bottleneck=FiniteScalar((5, 5))
    ),
}  # fmt: skip


def random_media(config: AutoencoderConfig, batch_size: int = 8, seed: int = 0) -> MediaBatch:
    """Random pictures or sounds."""
    random, shape = np.random.default_rng(seed), (batch_size, *config.shape)
    if config.modality == "image":
        return MediaBatch(random.integers(0, 256, shape).astype(np.uint8))
    return MediaBatch(random.uniform(-1, 1, shape).astype(np.float32))


def build_autoencoder(config: ModelConfig, layout: Layout = Layout(), seed: int = 0) -> Any:
    """The model under the mesh in force."""
    return jax.jit(lambda: config.build(nnx.Rngs(seed), layout))()


def write_codec(
    path: Path,
    config: AutoencoderConfig,
    model: Any = None,
    identity: str | None = None,
    **changes: Any,
) -> str:
    """Writes the file of a codec as `jaxgen codec export` does; returns its path."""
    model = build_autoencoder(config) if model is None else model
    arrays = {name: np.asarray(p[...]) for name, p in named_parameters(model)} | changes
    identity = config.identity if identity is None else identity
    path.write_bytes(safetensors.numpy.save(arrays, {"autoencoder": identity}))
    return str(path)
