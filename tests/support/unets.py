"""Small U-Nets that several tests share, and what they are told."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.unet_config import UNetConfig
from jaxgen.sharding.layout import Layout, using

SMALL: dict[str, Any] = {"size": 8, "width": 16, "multipliers": (1, 2), "norm_groups": 8}
UNETS = {
    "plain": UNetConfig(**SMALL, blocks=(1,), head_dim=8),
    "adm": UNetConfig(
        **SMALL, blocks=(1, 2), out_channels=6, attention=(None, "self"), head_dim=8,
        scale_shift=True, resampling="blocks", pooled_dim=64, pooled_join="add", dropout=0.3,
    ),
    "unclip": UNetConfig(
        **SMALL, blocks=(1,), attention=(None, "joint"), middle_attention="joint", head_dim=8,
        context_dim=12, pooled_dim=10, pooled_tokens=3, scale_shift=True, resampling="blocks",
    ),
    "latent": UNetConfig(
        **SMALL, blocks=(1,), channels=4, out_channels=4, attention=("transformer", None),
        middle_attention="transformer", num_heads=2, head_dim=None, context_dim=12,
        transformer_depth=(2, 1), dropout=0.3,
    ),
    "imagen": UNetConfig(
        **SMALL, blocks=(2, 1), order="efficient", image_channels=3, image_time=True,
        attention=(None, "cross"), middle_attention=None, num_heads=2, head_dim=8, context_dim=12,
        context_norm=True, pooled_dim=10, pooled_join="layers", skip_scale=2**-0.5,
    ),
}  # fmt: skip


def build_unet(config: UNetConfig, layout: Layout = Layout(), seed: int = 0) -> Any:
    """The network, made under a layout and the mesh in force."""

    def build():
        with using(layout):
            return config.build_denoiser(nnx.Rngs(seed))

    return jax.jit(build)()


def run_unet(model: Any, inputs: tuple[Any, ...], key=None, layout: Layout = Layout()) -> Any:
    """Its prediction, traced under a layout."""
    with using(layout):
        return model(*inputs, key)


def random_inputs(config: UNetConfig, batch_size: int = 4, seed: int = 0) -> tuple[Any, ...]:
    """A noisy picture, times, and all that the network reads beside."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(random.normal(size=(batch_size, *shape)), jnp.float32)

    size, lengths = config.size, 1 + np.arange(batch_size) % 5
    told = Conditioning(
        draw(5, config.context_dim) if config.context_dim else None,
        jnp.asarray(np.arange(5) < lengths[:, None]) if config.context_dim else None,
        draw(config.pooled_dim) if config.pooled_dim else None,
        draw(size, size, config.image_channels) if config.image_channels else None,
        jnp.asarray(random.uniform(0, 1000, batch_size), jnp.float32)
        if config.image_time
        else None,
    )
    time = jnp.asarray(random.uniform(0, 1000, batch_size), jnp.float32)
    return draw(size, size, config.channels), time, told
