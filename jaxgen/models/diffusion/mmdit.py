"""The diffusion transformer of two streams, a picture's and a text's (MMDiT, 2403.03206)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.errors import DataError, ShardingError
from jaxgen.models.context import AttentionContext
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditions import pooled_of, sequence_of
from jaxgen.models.diffusion.embedders import Linear, Patches, TimeEmbedding, TwoLayers
from jaxgen.models.diffusion.joint_block import (
    JointBlock,
    JointContext,
    SingleBlock,
    Streams,
    make_joint_context,
)
from jaxgen.models.diffusion.mmdit_config import JointGroup, MMDiTConfig
from jaxgen.models.diffusion.patching import grid_waves, picture_of_patches
from jaxgen.models.modulation import Modulation, shifted
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, make_parameter
from jaxgen.models.stack import repeated, scan_units
from jaxgen.models.towers import cells_of_grid
from jaxgen.ops.attention.masks import AttentionSide, attention_side
from jaxgen.ops.initializers import zeros
from jaxgen.ops.linear import linear
from jaxgen.ops.taps import collected, report_scanned
from jaxgen.sharding.layout import current_layout, is_split_over_stages, spec, using
from jaxgen.sharding.pipeline import with_whole_layers
from jaxgen.sharding.rules import mesh_is_set, reshard


class MMDiT(nnx.Module):
    """Blocks of two streams, of which the picture's becomes a prediction.

    Rows are whole on each device: the length is not split.
    """

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        self.config = config
        stack, embed = config.stack, config.stack.embed_dim
        start = stack.initialization
        self.patches = Patches(config.patch_size, config.channels, embed, start, rngs)
        self.time = TimeEmbedding(embed, start, rngs)
        self.pooled = TwoLayers(config.pooled_dim, embed, start, rngs)
        self.context = Linear(config.context_dim, embed, start, rngs)
        self.stack = JointStack(config, rngs)
        self.singles = SingleStack(config, rngs) if config.single_layers else None
        self.final_norm = Norm(stack, rngs)
        self.modulation = Modulation(embed, embed, 2, rngs)
        patch = (config.patch_size, config.patch_size, config.channels)
        self.out = make_parameter(rngs, (embed, *patch), ("embed", None, None, None), zeros)
        self.out_bias = make_parameter(rngs, patch, (None, None, None), zeros)
        self.guidance = None if config.told_guidance is None else TimeEmbedding(embed, start, rngs)

    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        conditioning: Conditioning,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prediction; see `Denoiser`. There is no dropout, whatever the key."""
        del key
        with using(current_layout().with_whole_length()):
            return self._predict(x, time, conditioning)

    def _predict(self, x, time, conditioning: Conditioning) -> jax.Array:
        config, dtype = self.config, self.config.compute_dtype
        pooled, attended = pooled_of(config, conditioning), sequence_of(config, conditioning)
        if pooled is None or attended is None:
            raise DataError("a transformer of two streams is told a sequence and a vector.")
        x = self.patches(reshard(x, spec("batch", None, None, None)).astype(dtype))
        if config.has_table:
            x = x + jnp.asarray(positions_of(config), dtype)
        vector = self.time(time, dtype)
        if self.guidance is not None:
            told = jnp.full_like(time, 1000 * (config.told_guidance or 0))
            vector = vector + self.guidance(told, dtype)
        vector = jax.nn.silu(vector + self.pooled(pooled))
        text, there = attended
        streams = Streams(x, self.context(text))
        context = self._context(streams, there)
        streams = self.stack(streams, context, vector)
        x = streams.picture
        if self.singles is not None:
            both = jnp.concatenate(streams, axis=1)
            x = self.singles(both, context.both, vector)[:, : config.side**2]
        scale, shift = self.modulation(vector)
        hidden, width = shifted(self.final_norm(x), shift, scale), config.patch_width
        weight, bias = gather(self.out, dtype), gather(self.out_bias, dtype)
        layout = spec("batch", None, None)
        y = linear("btd,de->bte", hidden, weight.reshape(-1, width), layout) + bias.reshape(width)
        return picture_of_patches(y.astype(jnp.float32), config.side, config.patch_size)

    def _context(self, streams: Streams, there: jax.Array | None) -> JointContext:
        """Returns what attention goes by; `there` says which of the text is no padding."""
        config, angles = self.config, None
        picture, text = _side(streams.picture, None), _side(streams.text, there)
        if (rope := config.stack.layers[0].rope) is not None:
            places = cells_of_grid((config.side, config.side), len(picture.positions))
            width = config.stack.width_of_head
            angles = rope.angles(picture.positions, width, places=places)
        return make_joint_context(picture, text, angles)


class JointStack(nnx.Module):
    """Groups of blocks of two streams, each scanned over its depth."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        self.config = config
        self.groups = nnx.List(
            [
                repeated(functools.partial(_Unit, group, config), group.repeats, rngs.params())
                for group in config.groups
            ]
        )

    def __call__(self, streams: Streams, context: JointContext, vector: jax.Array) -> Streams:
        """Runs the blocks.

        Args:
          streams: the picture and the text.
          context: of their tokens.
          vector: [batch, 1, embed], what modulates the blocks.
        """
        for group, unit in zip(self.config.groups, self.groups, strict=True):
            streams = _scanned(unit, group.repeats, streams, context, vector)
        return streams


class SingleStack(nnx.Module):
    """Blocks of one stream, scanned over their depth."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        self.config = config
        self.groups = nnx.List(
            [
                repeated(functools.partial(_SingleUnit, config), group.repeats, rngs.params())
                for group in config.singles.groups
            ]
        )

    def __call__(self, x: jax.Array, context: AttentionContext, vector: jax.Array) -> jax.Array:
        """Runs the blocks over [batch, length, embed]."""
        for group, unit in zip(self.config.singles.groups, self.groups, strict=True):
            x = _scanned(unit, group.repeats, x, context, vector)
        return x


def _scanned(unit: Any, repeats: int, x: Any, context: Any, vector: jax.Array) -> Any:
    """Returns what a unit's blocks make of x, scanned over its depth."""
    if is_split_over_stages():
        raise ShardingError(
            "the blocks of a transformer of two streams do not run in pipeline stages; set "
            "mesh.stage=1 and give the devices to mesh.fsdp or mesh.tensor."
        )
    if mesh_is_set():
        unit = jax.tree.map(with_whole_layers, unit)

    def run(x, unit):
        with collected() as reports:
            for block in unit.blocks:
                x = block(x, context, vector)
        return x, reports

    x, reports = scan_units(run, x, unit, repeats)
    report_scanned(reports, repeats)
    return x


class _Unit(nnx.Module):
    """The blocks that repeat over depth."""

    def __init__(self, group: JointGroup, config: MMDiTConfig, rngs: nnx.Rngs):
        self.blocks = nnx.List([JointBlock(kind, config, rngs) for kind in group.unit])


class _SingleUnit(nnx.Module):
    """The block of one stream that repeats over depth."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        self.blocks = nnx.List([SingleBlock(config, rngs)])


def _side(stream: jax.Array, there: jax.Array | None) -> AttentionSide:
    """Returns the tokens of a stream as attention knows them."""
    shape, whole = stream.shape[:2], spec("batch", None)
    segments = jnp.ones(shape, jnp.int32) if there is None else there.astype(jnp.int32)
    places = jnp.broadcast_to(jnp.arange(shape[1], dtype=jnp.int32), shape)
    return attention_side(reshard(places, whole), reshard(segments, whole))


def positions_of(config: MMDiTConfig) -> np.ndarray:
    """Returns the fixed positions of a picture's patches, [patches, embed] float32."""
    table = table_of(config)
    side = int(len(table) ** 0.5)
    first, last = (side - config.side) // 2, (side - config.side) // 2 + config.side
    grid = table.reshape(side, side, -1)[first:last, first:last]
    return grid.reshape(config.side**2, -1)


def table_of(config: MMDiTConfig) -> np.ndarray:
    """Returns the whole grid of fixed positions, [table_side^2, embed] float32."""
    side, base = config.table_side or config.side, config.base_side or config.side
    return grid_waves(side, config.stack.embed_dim, base / side)
