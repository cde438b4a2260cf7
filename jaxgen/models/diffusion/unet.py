"""The U-Net; see `unet_config.UNetConfig`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Many

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.convolutions import Convolution
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.embedders import Linear, TimeEmbedding, TwoLayers
from jaxgen.models.diffusion.unet_attention import Sequence, make_attention
from jaxgen.models.diffusion.unet_blocks import START, Doubling, GroupNorm, Halving, ResidualBlock
from jaxgen.models.diffusion.unet_config import Level, UNetConfig
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.ops.dropout import split
from jaxgen.ops.initializers import ones, zeros
from jaxgen.ops.normalisation import rms_normalise
from jaxgen.ops.patches import reshape_rows
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.sharding.layout import current_layout, spec
from jaxgen.sharding.rules import reshard


class UNet(nnx.Module):
    """The network; part of a model, which owns the layout. Rows are whole on each device."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs):
        self.config = config
        width, time_dim, levels = config.width, config.time_dim, config.levels
        self.time = TimeEmbedding(time_dim, START, rngs, frequencies=width)
        self.image_time = (
            TimeEmbedding(time_dim, START, rngs, frequencies=width) if config.image_time else None
        )
        pooled_dim, context_dim = config.pooled_dim or 0, config.context_dim or 0
        join = None if config.pooled_join == "add" or not pooled_dim else Linear
        join = TwoLayers if join and config.pooled_join == "layers" else join
        self.pooled = None if join is None else join(pooled_dim, time_dim, START, rngs)
        tokens = config.pooled_tokens * context_dim
        self.pooled_tokens = Linear(pooled_dim, tokens, START, rngs) if tokens else None
        self.context_norm = SequenceNorm(context_dim, rngs) if config.context_norm else None
        self.first = Convolution((3, 3, config.channels + config.image_channels), width, rngs)
        make_levels = _efficient_levels if config.is_efficient else _standard_levels
        down, up = make_levels(config, rngs)
        self.down, self.up = nnx.List(down), nnx.List(up)
        self.middle = None if config.is_efficient else Middle(config, levels[-1], rngs)
        read = 2 * width if config.is_efficient else width
        self.norm = GroupNorm(read, config.norm_groups, config.norm_epsilon, rngs)
        self.last = Convolution((3, 3, read), config.out_channels, rngs, zeros, split="in")

    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        conditioning: Conditioning,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prediction; see `base.Denoiser`."""
        config, dtype = self.config, self.config.compute_dtype
        _check_told(config, conditioning)
        embedded = jax.nn.silu(self._embed(time, conditioning))
        sequence = self._sequence(conditioning)
        keys = itertools.repeat(None)
        if key is not None and config.dropout:
            keys = (jax.random.fold_in(key, number) for number in itertools.count())
        if config.image_channels:
            x = jnp.concatenate([x, conditioning.image.astype(x.dtype)], axis=-1)
        x = self.first(x.astype(dtype))
        skips = [x]
        for level in self.down:
            x, left = level(x, (), embedded, sequence, keys)
            skips += [x] if config.is_efficient else left
        if self.middle is not None:
            x = self.middle(x, embedded, sequence, keys)
        skips = [one * config.skip_scale for one in skips] if config.skip_scale != 1 else skips
        for level in self.up:
            read = [skips.pop() for _ in range(level.num_skips)]
            x, _ = level(x, read, embedded, sequence, keys)
        if config.is_efficient:
            x = jnp.concatenate([x, skips.pop()], axis=-1)
        return self.last(jax.nn.silu(self.norm(x))).astype(jnp.float32)

    def _embed(self, time: jax.Array, conditioning: Conditioning) -> jax.Array:
        """Returns [batch, 1, time_dim], of time and of what joins it."""
        dtype = self.config.compute_dtype
        embedded = self.time(time, dtype)
        if self.image_time is not None:
            embedded = embedded + self.image_time(conditioning.time, dtype)
        if self.config.pooled_dim is not None:
            pooled = conditioning.pooled.astype(dtype)[:, None]
            embedded = embedded + (pooled if self.pooled is None else self.pooled(pooled))
        return embedded

    def _sequence(self, conditioning: Conditioning) -> Sequence | None:
        """Returns what attention reads, the tokens of the vector at its end."""
        config, hidden = self.config, conditioning.sequence
        if config.context_dim is None:
            return None
        hidden = hidden.astype(config.compute_dtype)
        if self.context_norm is not None:
            hidden = self.context_norm(hidden)
        ids = reshard(jnp.ones(hidden.shape[:2], jnp.int32), spec("batch", None))
        if conditioning.mask is not None:
            ids = conditioning.mask.astype(jnp.int32)
        if self.pooled_tokens is not None:
            made = self.pooled_tokens(conditioning.pooled.astype(hidden.dtype)[:, None])
            made = reshape_rows(made, len(made), config.pooled_tokens, config.context_dim)
            hidden = jnp.concatenate([hidden, made], axis=1)
            there = jnp.ones((len(made), config.pooled_tokens), jnp.int32)
            ids = jnp.concatenate([ids, reshard(there, spec("batch", None))], axis=1)
        return Sequence(hidden, ids)


class UNetLevel(nnx.Module):
    """The residual blocks of one resolution, their attentions, and a change of resolution."""

    def __init__(
        self,
        config: UNetConfig,
        level: Level,
        reads: Many[int],
        rngs: nnx.Rngs,
        before: nnx.Module | None = None,
        after: nnx.Module | None = None,
        num_skips: int = 0,
    ):
        """Makes the blocks, one for each number of channels in `reads`.

        The first `num_skips` of them read a skip connection.
        """
        self.num_skips = num_skips
        self.before, self.after = before, after
        self.blocks = nnx.List([_block(config, n_in, level.width, rngs) for n_in in reads])
        kind = level.attention
        self.attentions = nnx.List(
            [make_attention(config, kind, level.width, level.depth, rngs) for _ in reads]
            if kind is not None
            else []
        )

    def __call__(self, x, skips: Many[jax.Array], embedded, sequence, keys):
        """Returns the stream, and what each block and the change of resolution after them left."""
        if self.before is not None:
            x = self.before(x)  # pyright: ignore[reportCallIssue]
        left = []
        for number, block in enumerate(self.blocks):
            attention = self.attentions[number] if len(self.attentions) else None
            skip = skips[number] if number < len(skips) else None
            x = _run(block, attention, x, skip, embedded, sequence, next(keys))
            left.append(x)
        if isinstance(self.after, ResidualBlock):
            x = _run(self.after, None, x, None, embedded, sequence, next(keys))
        elif self.after is not None:
            x = self.after(x)  # pyright: ignore[reportCallIssue]
        return x, left if self.after is None else [*left, x]


class Middle(nnx.Module):
    """Two residual blocks at the lowest resolution, with an attention between them."""

    def __init__(self, config: UNetConfig, level: Level, rngs: nnx.Rngs):
        width, kind = level.width, config.middle_attention
        self.first = _block(config, width, width, rngs)
        self.attention = (
            None if kind is None else make_attention(config, kind, width, level.depth, rngs)
        )
        self.second = _block(config, width, width, rngs)

    def __call__(self, x, embedded, sequence, keys):
        x = _run(self.first, self.attention, x, None, embedded, sequence, next(keys))
        return _run(self.second, None, x, None, embedded, sequence, next(keys))


class SequenceNorm(nnx.Module):
    """A LayerNorm of the vectors of a sequence, in float32."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.scale = make_parameter(rngs, (width,), ("embed",), ones)
        self.bias = make_parameter(rngs, (width,), ("embed",), zeros)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = rms_normalise(y - jnp.mean(y, axis=-1, keepdims=True), 1e-5)
        y = y * gather(self.scale, jnp.float32) + gather(self.bias, jnp.float32)
        return y.astype(x.dtype)


def _run(block, attention, x, skip, embedded, sequence, key):
    """Returns the stream after a block and its attention; backward passes may compute it again."""

    def run(block, attention, x, skip, embedded, sequence, key):
        first, second = split(key, 2)
        x = x if skip is None else jnp.concatenate([x, skip], axis=-1)
        x = block(x, embedded, first)
        return x if attention is None else attention(x, sequence, second)

    layout = current_layout()
    again = rematerialised(run, layout.remat, layout.remat_saved, layout.remat_offloaded)
    return again(block, attention, x, skip, embedded, sequence, key)


def _block(config: UNetConfig, n_in: int, n_out: int, rngs: nnx.Rngs, resampling=None):
    return ResidualBlock(
        n_in,
        n_out,
        rngs,
        groups=config.norm_groups,
        epsilon=config.norm_epsilon,
        time_dim=config.time_dim,
        scale_shift=config.scale_shift,
        dropout=config.dropout,
        resampling=resampling,
    )


def _standard_levels(config: UNetConfig, rngs: nnx.Rngs) -> tuple[list[UNetLevel], list[UNetLevel]]:
    """Returns the levels of the way down, and those of the way up in the order they are run."""
    in_blocks = config.resampling == "blocks"
    levels, down, up = config.levels, [], []
    n_in, skips = config.width, [config.width]
    for number, level in enumerate(levels):
        width, after = level.width, None
        if number + 1 < len(levels):
            after = _block(config, width, width, rngs, "down") if in_blocks else None
            after = after or Halving(width, width, rngs)
        reads = [n_in, *[width] * (level.blocks - 1)]
        down.append(UNetLevel(config, level, reads, rngs, after=after))
        skips += [width] * (level.blocks + (after is not None))
        n_in = width
    for number, level in reversed(list(enumerate(levels))):
        width, after, reads = level.width, None, []
        for _ in range(level.blocks + 1):
            reads.append(n_in + skips.pop())
            n_in = width
        if number:
            after = _block(config, width, width, rngs, "up") if in_blocks else None
            after = after or Doubling(width, width, rngs)
        up.append(UNetLevel(config, level, reads, rngs, after=after, num_skips=len(reads)))
    return down, up


def _efficient_levels(
    config: UNetConfig, rngs: nnx.Rngs
) -> tuple[list[UNetLevel], list[UNetLevel]]:
    """Returns the same of the Efficient U-Net; see `UNetConfig.order`."""
    down, up = [], []
    for n_in, level in zip(config.widths, config.levels, strict=False):
        before, reads = Halving(n_in, level.width, rngs), [level.width] * level.blocks
        down.append(UNetLevel(config, level, reads, rngs, before=before))
    for n_out, level in reversed(list(zip(config.widths, config.levels, strict=False))):
        after = Doubling(level.width, n_out, rngs)
        reads = [2 * level.width, *[level.width] * (level.blocks - 1)]
        up.append(UNetLevel(config, level, reads, rngs, after=after, num_skips=1))
    return down, up


def _check_told(config: UNetConfig, conditioning: Conditioning) -> None:
    """Raises ConfigError if the network is not told what it reads."""
    needs = {
        "sequence": ("context_dim", config.context_dim is not None),
        "pooled": ("pooled_dim", config.pooled_dim is not None),
        "image": ("image_channels", config.image_channels > 0),
        "time": ("image_time", config.image_time),
    }
    for name, (field, is_read) in needs.items():
        if is_read and getattr(conditioning, name) is None:
            raise ConfigError(
                f"unet.{field}={getattr(config, field)!r}, and the network was not told a "
                f"Conditioning.{name}; give the model a conditioner that does."
            )
