"""A stack of blocks: groups of units that repeat, each group scanned over its depth."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.attention import make_relative
from jaxgen.models.block import Block
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import KeyValues
from jaxgen.models.context import AttentionContext, EncoderOutput
from jaxgen.models.norms import Norm
from jaxgen.models.stack_config import Group, StackConfig
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.ops.routing import RouterStatistics
from jaxgen.ops.taps import collected, report_scanned
from jaxgen.sharding.layout import current_layout


class StackOutput(NamedTuple):
    """The stream after the last norm, the router's statistics [sparse layers, ...], the caches."""

    hidden: jax.Array
    router: RouterStatistics | None
    key_values: KeyValues | None
    cross: KeyValues | None


class Unit(nnx.Module):
    """The blocks that repeat over depth."""

    def __init__(self, group: Group, config: StackConfig, rngs: nnx.Rngs, attended_dim):
        self.blocks = nnx.List([Block(kind, config, rngs, attended_dim) for kind in group.unit])


class Stack(nnx.Module):
    """Groups of blocks, and the norm after them."""

    def __init__(
        self,
        config: StackConfig,
        rngs: nnx.Rngs,
        attended_dim: int | None = None,
    ):
        self.config = config
        self.repeats = tuple(group.repeats for group in config.groups)
        self.groups = nnx.List(
            [_repeat(group, config, rngs.params(), attended_dim) for group in config.groups]
        )
        self.relative = make_relative(config, rngs, per_layer=False)
        has_norm = config.norm_placement != "post"
        self.final_norm = Norm(config, rngs) if has_norm else None

    def __call__(
        self,
        x: jax.Array,
        segment_ids: jax.Array,
        contexts: dict[LayerConfig, AttentionContext],
        cached: KeyValues | None = None,
        encoder: EncoderOutput | None = None,
        key: jax.Array | None = None,
    ) -> StackOutput:
        """Runs the blocks.

        Args:
          x: [batch, length, embed].
          segment_ids: [batch, length] int32.
          contexts: of every kind of layer.
          cached: keys and values of a cache; the written ones are returned.
          encoder: of an encoder-decoder.
          key: of a training pass.
        """
        keeps, layout = cached is not None, current_layout()
        cross = None if encoder is None else encoder.key_values
        written, router = [], []
        for index, (unit, repeats) in enumerate(zip(self.groups, self.repeats, strict=True)):
            keys = None
            if key is not None:
                keys = jax.random.split(jax.random.fold_in(key, index), repeats)
            own = None if cached is None else cached[index]
            scanned = (unit, own, None if cross is None else cross[index], keys)

            def run_unit(x, scanned):
                unit, own, cross, unit_key = scanned
                statistics, new, new_cross = [], [], []
                with collected() as reports:
                    for place, block in enumerate(unit.blocks):
                        x, statistic, key_value, cross_key_value = block(
                            x,
                            segment_ids,
                            contexts[block.layer],
                            None if own is None else own[place],
                            encoder,
                            None if cross is None else cross[place],
                            None if unit_key is None else jax.random.fold_in(unit_key, place),
                        )
                        statistics += [] if statistic is None else [statistic]
                        new.append(key_value)
                        new_cross.append(cross_key_value)
                ys = (tuple(new), tuple(new_cross)) if keeps else (None, None)
                return x, (reports, _stacked(statistics), *ys)

            x, (reports, statistics, *new) = jax.lax.scan(
                rematerialised(run_unit, layout.remat, layout.remat_saved),
                x,
                scanned,
                unroll=min(layout.scan_unroll, repeats),
            )
            report_scanned(reports, repeats)
            written.append(new)
            if statistics is not None:
                router.append(jax.tree.map(jnp.concatenate, statistics))
        hidden = x if self.final_norm is None else self.final_norm(x)
        all_router = jax.tree.map(lambda *s: jnp.concatenate(s), *router) if router else None
        if not keeps:
            return StackOutput(hidden, all_router, None, None)
        key_values, cross = (tuple(column) for column in zip(*written, strict=True))
        return StackOutput(hidden, all_router, key_values, None if encoder is None else cross)


def _stacked(statistics: list[RouterStatistics]) -> RouterStatistics | None:
    return jax.tree.map(lambda *s: jnp.stack(s), *statistics) if statistics else None


def _repeat(group: Group, config, key: jax.Array, attended_dim: int | None) -> Unit:
    """Returns the unit with parameters [repeats, ...]."""
    keys = jax.random.split(key, group.repeats)

    def make(key):
        return Unit(group, config, nnx.Rngs(params=key), attended_dim)

    def add_layers_axis(parameter):
        return nnx.Param(parameter[...], logical_axes=("layers", *parameter.logical_axes))

    return jax.tree.map(
        add_layers_axis, jax.vmap(make)(keys), is_leaf=lambda x: isinstance(x, nnx.Param)
    )
