"""A stack of blocks: groups of units that repeat, each group scanned over its depth."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.attention import make_relative
from jaxgen.models.block import Block
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import Pairs
from jaxgen.models.config import Group, TransformerConfig
from jaxgen.models.context import View
from jaxgen.models.norms import Norm
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.ops.routing import RouterStatistics
from jaxgen.sharding.layout import current_layout


class Source(NamedTuple):
    """What cross-attention sees.

    Attributes:
      hidden: [batch, source length, embed], or None where `pairs` hold what was made of it.
      view: of its places.
      pairs: its keys and values in every block, or None.
    """

    hidden: jax.Array | None
    view: View
    pairs: Pairs | None = None


class StackOutput(NamedTuple):
    """The stream after the last norm, the router's statistics [sparse layers, ...], the caches."""

    hidden: jax.Array
    router: RouterStatistics | None
    pairs: Pairs | None
    source_pairs: Pairs | None


class Unit(nnx.Module):
    """The blocks that repeat over depth."""

    def __init__(self, group: Group, config: TransformerConfig, rngs: nnx.Rngs, has_source):
        self.blocks = nnx.List([Block(kind, config, rngs, has_source) for kind in group.unit])


class Stack(nnx.Module):
    """Groups of blocks, and the norm after them."""

    def __init__(
        self,
        groups: tuple[Group, ...],
        config: TransformerConfig,
        rngs: nnx.Rngs,
        has_source: bool = False,
    ):
        self.config = config
        self.repeats = tuple(group.repeats for group in groups)
        self.groups = nnx.List(
            [_repeat(group, config, rngs.params(), has_source) for group in groups]
        )
        self.relative = make_relative(config, rngs, per_layer=False)
        has_norm = config.norm_placement != "post"
        self.final_norm = Norm(config, rngs) if has_norm else None

    def __call__(
        self,
        x: jax.Array,
        segment_ids: jax.Array,
        views: dict[LayerConfig, View],
        pairs: Pairs | None = None,
        source: Source | None = None,
        key: jax.Array | None = None,
    ) -> StackOutput:
        """Runs the blocks.

        Args:
          x: [batch, length, embed].
          segment_ids: [batch, length] int32.
          views: of every kind of layer.
          pairs: of a cache; the written ones are returned.
          source: of an encoder-decoder.
          key: of a training pass.
        """
        keeps, layout = pairs is not None, current_layout()
        written, router = [], []
        for index, (unit, repeats) in enumerate(zip(self.groups, self.repeats, strict=True)):
            keys = None
            if key is not None:
                keys = jax.random.split(jax.random.fold_in(key, index), repeats)
            of_source = None if source is None or source.pairs is None else source.pairs[index]
            scanned = (unit, None if pairs is None else pairs[index], of_source, keys)

            def run_unit(x, scanned):
                unit, cached, of_source, unit_key = scanned
                statistics, new, new_of_source = [], [], []
                for place, block in enumerate(unit.blocks):
                    x, statistic, pair, source_pair = block(
                        x,
                        segment_ids,
                        views[block.layer],
                        None if cached is None else cached[place],
                        None if source is None else source.hidden,
                        None if source is None else source.view,
                        None if of_source is None else of_source[place],
                        None if unit_key is None else jax.random.fold_in(unit_key, place),
                    )
                    statistics += [] if statistic is None else [statistic]
                    new.append(pair)
                    new_of_source.append(source_pair)
                ys = (tuple(new), tuple(new_of_source)) if keeps else (None, None)
                return x, (_stacked(statistics), *ys)

            x, (statistics, *new) = jax.lax.scan(
                rematerialised(run_unit, layout.remat),
                x,
                scanned,
                unroll=min(layout.scan_unroll, repeats),
            )
            written.append(new)
            if statistics is not None:
                router.append(jax.tree.map(jnp.concatenate, statistics))
        hidden = x if self.final_norm is None else self.final_norm(x)
        all_router = jax.tree.map(lambda *s: jnp.concatenate(s), *router) if router else None
        if not keeps:
            return StackOutput(hidden, all_router, None, None)
        own, of_source = (tuple(column) for column in zip(*written, strict=True))
        return StackOutput(hidden, all_router, own, None if source is None else of_source)


def _stacked(statistics: list[RouterStatistics]) -> RouterStatistics | None:
    return jax.tree.map(lambda *s: jnp.stack(s), *statistics) if statistics else None


def _repeat(group: Group, config, key: jax.Array, has_source: bool) -> Unit:
    """The unit with parameters [repeats, ...]."""
    keys = jax.random.split(key, group.repeats)

    def make(key):
        return Unit(group, config, nnx.Rngs(params=key), has_source)

    def add_layers_axis(parameter):
        return nnx.Param(parameter[...], logical_axes=("layers", *parameter.logical_axes))

    return jax.tree.map(
        add_layers_axis, jax.vmap(make)(keys), is_leaf=lambda x: isinstance(x, nnx.Param)
    )
