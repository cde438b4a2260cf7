"""Small denoisers, and what they read, that several tests share."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.base import Conditioning, DenoiserConfig
from jaxgen.models.diffusion.dit_config import DiTConfig
from jaxgen.models.diffusion.mmdit_config import MMDiTConfig
from jaxgen.models.diffusion.prior_config import PriorConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.ops.positions import Rope
from jaxgen.sharding.layout import Layout, using
from support.helpers import spread

BOTH_WAYS = (LayerConfig(mask=(Bidirectional(),), rope=None),)
DIT_STACK: dict[str, Any] = {
    "norm": "layer",
    "norm_scale": False,
    "gated": False,
    "activation": "gelu_tanh",
    "biases": ("qkv", "attention_out", "feed_forward"),
    "layers": BOTH_WAYS,
}
SIZES: dict[str, Any] = {"num_layers": 2, "embed_dim": 32, "num_heads": 4, "mlp_dim": 128}


def dit_stack(**changes: Any) -> StackConfig:
    """A stack of DiT's form."""
    return StackConfig(**DIT_STACK | SIZES | changes)


def tiny_dit(**changes: Any) -> DiTConfig:
    """DiT's form."""
    fields: dict[str, Any] = {
        "stack": dit_stack(), "size": 8, "channels": 3, "patch_size": 2, "pooled_dim": 32,
        "learned_variance": True,
    }  # fmt: skip
    return DiTConfig(**fields | changes)


def jit_config(**changes: Any) -> DiTConfig:
    """JiT's form: pixels through a bottleneck, RMS norms, gates, places by rotation."""
    rope = Rope(sections=(0, 0, 2, 2))
    layers = (LayerConfig(mask=(Bidirectional(),), rope=rope, qk_norm="head"),)
    stack = StackConfig(**SIZES, layers=layers)
    fields: dict[str, Any] = {
        "stack": stack, "size": 8, "channels": 3, "patch_size": 4, "bottleneck_dim": 8,
        "pooled_dim": 32,
    }  # fmt: skip
    return DiTConfig(**fields | changes)


DITS: dict[str, DiTConfig] = {
    "dit": tiny_dit(),
    "pixart": tiny_dit(
        context_dim=20, pooled_dim=12, pooled_layers=True, learned_variance=False,
        feed_forward_epsilon=1e-5, frequency_shift=1,
    ),
    "upsampling": tiny_dit(image_channels=3, pooled_dim=None),
    "jit": jit_config(),
}  # fmt: skip


def build_denoiser(config: DenoiserConfig, layout: Layout = Layout(), seed: int = 0) -> Any:
    """The network with every parameter moved from where it begins, so that each shows."""
    with using(layout):
        return spread(config.build_denoiser(nnx.Rngs(seed)))


def on_mesh(config: DenoiserConfig, model: Any, layout: Layout) -> Any:
    """The network's parameters as the mesh in force lays them out."""
    with using(layout):
        split = jax.eval_shape(lambda: config.build_denoiser(nnx.Rngs(0)))
    mesh = jax.sharding.get_mesh()
    return jax.tree.map(
        lambda leaf, one: jax.device_put(
            np.asarray(one), jax.NamedSharding(mesh, leaf.sharding.spec)
        ),
        split,
        model,
    )


def abstract_denoiser(config: DenoiserConfig) -> Any:
    """The network's tree of shapes."""
    with using(Layout()):
        return jax.eval_shape(lambda: config.build_denoiser(nnx.Rngs(0)))


def denoise(model: Any, *args: Any, layout: Layout = Layout(), **kwargs: Any) -> jax.Array:
    """The prediction under a layout."""
    with using(layout):
        return model(*args, **kwargs)


def inputs_of(
    config: DenoiserConfig, batch: int = 3, length: int = 5, seed: int = 0
) -> tuple[Any, Any, Conditioning]:
    """A noisy picture, times, and all that the network reads beside."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(random.normal(size=(batch, *shape)), jnp.float32)

    def one(width, *shape):
        return draw(*shape, width) if width else None

    size = config.size
    mask = np.arange(length) < random.integers(1, length + 1, (batch, 1))
    conditioning = Conditioning(
        sequence=one(config.context_dim, length),
        mask=jnp.asarray(mask) if config.context_dim else None,
        pooled=one(config.pooled_dim),
        image=one(config.image_channels, size, size),
        time=jnp.asarray(random.uniform(0, 1000, batch), jnp.float32)
        if config.image_channels
        else None,
    )
    time = jnp.asarray(random.uniform(0, 1000, batch), jnp.float32)
    return draw(size, size, config.channels), time, conditioning


def without(conditioning: Conditioning, **changes: Any) -> Conditioning:
    """The conditioning with fields changed."""
    return dataclasses.replace(conditioning, **changes)


def tiny_mmdit(**changes: Any) -> MMDiTConfig:
    """Stable Diffusion 3's form."""
    fields: dict[str, Any] = {
        "stack": dit_stack(num_layers=3), "size": 8, "channels": 3, "patch_size": 2,
        "context_dim": 20, "pooled_dim": 12, "table_side": 6,
    }  # fmt: skip
    return MMDiTConfig(**fields | changes)


MMDITS: dict[str, MMDiTConfig] = {
    "sd3": tiny_mmdit(),
    "sd35_medium": tiny_mmdit(qk_norm=True, dual_layers=2),
    "all_dual": tiny_mmdit(
        stack=dit_stack(gated=True, norm_scale=True, num_kv_heads=2), dual_layers=2, base_side=2
    ),
    "flux": tiny_mmdit(
        stack=dit_stack(
            layers=(
                LayerConfig(
                    mask=(Bidirectional(),), rope=Rope(sections=(0, 0, 2, 2), interleaved=True)
                ),
            )
        ),
        table_side=None, qk_norm=True, single_layers=2, told_guidance=3.5,
    ),
}  # fmt: skip


def tiny_prior(**changes: Any) -> PriorConfig:
    """The form of unCLIP's diffusion prior."""
    stack = StackConfig(
        **SIZES, norm="layer", norm_epsilon=1e-5, gated=False, activation="gelu",
        biases=("qkv", "attention_out", "feed_forward", "norm"), layers=(LayerConfig(rope=None),),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "stack": stack, "channels": 20, "context_dim": 20, "pooled_dim": 20, "max_length": 6,
    }  # fmt: skip
    return PriorConfig(**fields | changes)
