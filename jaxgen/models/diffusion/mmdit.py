"""The diffusion transformer of two streams, a picture's and a text's (MMDiT, 2403.03206)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.errors import DataError, ShardingError
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditions import pooled_of, sequence_of
from jaxgen.models.diffusion.embedders import Linear, Patches, TimeEmbedding, TwoLayers
from jaxgen.models.diffusion.joint_block import JointBlock, Streams, make_joint_context
from jaxgen.models.diffusion.mmdit_config import JointGroup, MMDiTConfig
from jaxgen.models.diffusion.patching import grid_waves, picture_of_patches
from jaxgen.models.modulation import Modulation, shifted
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import make_parameter, project
from jaxgen.models.stack import repeated, scan_units
from jaxgen.ops.attention.masks import AttentionSide, attention_side
from jaxgen.ops.initializers import zeros
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
        self.modulation = Modulation(embed, embed, 2, rngs)
        self.out = make_parameter(rngs, (embed, config.patch_width), ("embed", None), zeros)
        self.out_bias = make_parameter(rngs, (config.patch_width,), (None,), zeros)

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
        x = x + jnp.asarray(positions_of(config), dtype)
        vector = jax.nn.silu(self.time(time, dtype) + self.pooled(pooled))
        text, there = attended
        x = self.stack(Streams(x, self.context(text)), there, vector)
        scale, shift = self.modulation(vector)
        y = project(shifted(x, shift, scale), self.out, self.out_bias)
        return picture_of_patches(y.astype(jnp.float32), config.side, config.patch_size)


class JointStack(nnx.Module):
    """Groups of blocks of two streams, each scanned over its depth, and the picture's last norm."""

    def __init__(self, config: MMDiTConfig, rngs: nnx.Rngs):
        self.config = config
        self.groups = nnx.List(
            [
                repeated(functools.partial(_Unit, group, config), group.repeats, rngs.params())
                for group in config.groups
            ]
        )
        self.final_norm = Norm(config.stack, rngs)

    def __call__(self, streams: Streams, there: jax.Array | None, vector: jax.Array) -> jax.Array:
        """Returns the picture's stream after the last norm.

        Args:
          streams: the picture and the text.
          there: [batch, text] bool, which of the text is there; None: all.
          vector: [batch, 1, embed], what modulates the blocks.
        """
        if is_split_over_stages():
            raise ShardingError(
                "the blocks of a transformer of two streams do not run in pipeline stages; set "
                "mesh.stage=1 and give the devices to mesh.fsdp or mesh.tensor."
            )
        context = make_joint_context(_side(streams.picture, None), _side(streams.text, there))

        def run(streams, unit):
            with collected() as reports:
                for block in unit.blocks:
                    streams = block(streams, context, vector)
            return streams, reports

        for group, unit in zip(self.config.groups, self.groups, strict=True):
            if mesh_is_set():
                unit = jax.tree.map(with_whole_layers, unit)
            streams, reports = scan_units(run, streams, unit, group.repeats)
            report_scanned(reports, group.repeats)
        return self.final_norm(streams.picture)


class _Unit(nnx.Module):
    """The blocks that repeat over depth."""

    def __init__(self, group: JointGroup, config: MMDiTConfig, rngs: nnx.Rngs):
        self.blocks = nnx.List([JointBlock(kind, config, rngs) for kind in group.unit])


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
