"""The audio encoder of Whisper (2212.04356, 2.2): two convolutions over log-mel frames, a stack."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.models.audio_config import WIDTH, AudioConfig
from jaxgen.models.parameters import freeze, gather, kernel, make_parameter
from jaxgen.models.stack import Stack
from jaxgen.models.towers import run_tower
from jaxgen.ops.initializers import zeros
from jaxgen.ops.linear import linear
from jaxgen.sharding.layout import current_layout, spec, using
from jaxgen.sharding.rules import reshard


class AudioEncoder(nnx.Module):
    """Frames to hidden states; part of a model, which owns the layout."""

    def __init__(self, config: AudioConfig, rngs: nnx.Rngs):
        self.config = config
        stack, embed, bands = config.stack, config.width, config.bands

        def convolution(width: int) -> tuple[nnx.Param, nnx.Param]:
            axes = (None, None, "embed")
            start = kernel(stack, WIDTH * width, embed, axes[1:])
            weight = make_parameter(rngs, (WIDTH, width, embed), axes, start)
            return weight, make_parameter(rngs, (embed,), ("embed",), zeros)

        self.first, self.first_bias = convolution(bands)
        self.second, self.second_bias = convolution(embed)
        shape = (config.num_tokens, embed)
        self.positions = freeze(make_parameter(rngs, shape, (None, "embed"), _sines))
        self.stack = Stack(stack, rngs)

    def features(
        self, media: jax.Array, key: jax.Array | None = None, num_layers: int | None = None
    ) -> jax.Array:
        """Maps [batch, frames, bands] to hidden states; see `MediaEncoderConfig.make`."""
        dtype = self.config.stack.compute_dtype
        with using(current_layout().with_whole_length()):
            x = reshard(media.astype(dtype), spec("batch", None, None))
            x = _convolve(x, self.first, self.first_bias, 1)
            x = _convolve(x, self.second, self.second_bias, 2)
            x = x + gather(self.positions, dtype)
            return run_tower(self.stack, x, key, num_layers)[0]


def _convolve(x: jax.Array, weight: nnx.Variable, bias: nnx.Variable, stride: int) -> jax.Array:
    """Returns [batch, length / stride, embed] of [batch, length, in], after a GELU."""
    length = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    seen = [padded[:, first : first + length : stride] for first in range(WIDTH)]
    flat = gather(weight, x.dtype).reshape(-1, weight.shape[-1])
    y = linear("btd,de->bte", jnp.concatenate(seen, axis=-1), flat, spec("batch", None, None))
    return jax.nn.gelu(y + gather(bias, x.dtype), approximate=False)


def _sines(key, shape, out_sharding):
    """Returns Whisper's table: sines, then cosines, of wavelengths from 2 pi to 20,000 pi."""
    del key
    length, width = shape
    frequencies = np.exp(-np.log(10_000) * np.arange(width // 2) / max(width // 2 - 1, 1))
    angles = np.arange(length)[:, None] * frequencies
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return jnp.asarray(table, out_sharding=out_sharding)
