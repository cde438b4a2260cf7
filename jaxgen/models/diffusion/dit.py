"""The diffusion transformer: patches of a noisy picture through the shared stack (DiT, 2212.09748).

JiT (2511.13720) is the same with large patches of pixels, a bottleneck before the stream and RMS
norms; PixArt (2310.00426) reads its caption by cross-attention.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditions import pooled_of, sequence_of, with_image
from jaxgen.models.diffusion.dit_config import DiTConfig
from jaxgen.models.diffusion.embedders import Linear, Patches, TimeEmbedding, TwoLayers
from jaxgen.models.diffusion.patching import grid_waves, picture_of_patches
from jaxgen.models.modulation import Modulation, ModulationConfig, shifted
from jaxgen.models.parameters import make_parameter, project
from jaxgen.models.stack import Stack
from jaxgen.models.towers import run_tower
from jaxgen.ops.initializers import zeros
from jaxgen.sharding.layout import current_layout, spec, using
from jaxgen.sharding.rules import reshard


class DiT(nnx.Module):
    """A stack over patches that a vector of time, and of what joins it, modulates.

    A row of patches is whole on each device: the length is not split.
    """

    def __init__(self, config: DiTConfig, rngs: nnx.Rngs):
        self.config = config
        stack, embed = config.stack, config.stack.embed_dim
        start, bottleneck = stack.initialization, config.bottleneck_dim
        self.patches = Patches(
            config.patch_size,
            config.channels + config.image_channels,
            bottleneck or embed,
            start,
            rngs,
            bias=bottleneck is None,
        )
        self.widen = None if bottleneck is None else Linear(bottleneck, embed, start, rngs)
        shift = config.frequency_shift
        self.time = TimeEmbedding(embed, start, rngs, shift=shift)
        self.image_time = (
            TimeEmbedding(embed, start, rngs, shift=shift) if config.image_channels else None
        )
        self.pooled = (
            TwoLayers(config.pooled_dim, embed, start, rngs)
            if config.pooled_layers and config.pooled_dim
            else None
        )
        self.stack = Stack(
            stack, rngs, config.context_dim, ModulationConfig(embed, config.feed_forward_epsilon)
        )
        self.modulation = Modulation(embed, embed, 2, rngs)
        width = config.patch_size**2 * config.out_channels
        self.out = make_parameter(rngs, (embed, width), ("embed", None), zeros)
        self.out_bias = make_parameter(rngs, (width,), (None,), zeros)

    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        conditioning: Conditioning,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prediction; see `Denoiser`."""
        with using(current_layout().with_whole_length()):
            return self._predict(x, time, conditioning, key)

    def _predict(self, x, time, conditioning: Conditioning, key) -> jax.Array:
        config, dtype = self.config, self.config.stack.compute_dtype
        x = with_image(config, reshard(x, spec("batch", None, None, None)), conditioning)
        x = self.patches(x.astype(dtype))
        x = x if self.widen is None else self.widen(x)
        if config.positions == "sincos":
            x = x + jnp.asarray(grid_waves(config.side, config.stack.embed_dim), dtype)
        vector = self.time(time, dtype)
        if self.image_time is not None:
            vector = vector + self.image_time(conditioning.time, dtype)
        pooled = pooled_of(config, conditioning)
        if pooled is not None:
            vector = vector + (pooled if self.pooled is None else self.pooled(pooled))
        vector = jax.nn.silu(vector)
        hidden, _ = run_tower(
            self.stack,
            x,
            key if config.stack.differs_in_training else None,
            grid=(config.side, config.side),
            attended=sequence_of(config, conditioning),
            vector=vector,
        )
        hidden = shifted(hidden, *self.modulation(vector))
        y = project(hidden, self.out, self.out_bias)
        return picture_of_patches(y.astype(jnp.float32), config.side, config.patch_size)
