"""A stack of blocks: groups of units that repeat, each group scanned over its depth."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ShardingError
from jaxgen.models.attention import make_relative
from jaxgen.models.block import Block
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import KeyValues
from jaxgen.models.context import AttentionContext, EncoderOutput
from jaxgen.models.modulation import ModulationConfig
from jaxgen.models.norms import Norm
from jaxgen.models.spans import spans_of
from jaxgen.models.stack_config import Group, StackConfig
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.ops.routing import RouterStatistics
from jaxgen.ops.taps import collected, report_scanned
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.layout import current_layout, is_split_over_stages, spec, using
from jaxgen.sharding.pipeline import (
    Microbatch,
    from_microbatches,
    in_microbatches,
    layer_of_stages,
    log_schedule,
    make_schedule,
    num_stages,
    run_pipeline,
    with_whole_layers,
)
from jaxgen.sharding.rules import mesh_is_set, num_parts, reshard


class StackOutput(NamedTuple):
    """The stream after the last norm, the router's statistics [sparse layers, ...], the caches.

    `earlier` is the stream before the last blocks, where that is asked for.
    """

    hidden: jax.Array
    router: RouterStatistics | None
    key_values: KeyValues | None
    cross: KeyValues | None
    earlier: jax.Array | None = None


class _Read(NamedTuple):
    """What the blocks read beside the stream; contexts are ordered as `kinds_of_layers`."""

    tokens: RoutedTokens
    contexts: tuple[AttentionContext, ...]
    encoder: EncoderOutput | None
    vector: jax.Array | None


class Unit(nnx.Module):
    """The blocks that repeat over depth."""

    def __init__(self, group: Group, config: StackConfig, rngs: nnx.Rngs, beside: tuple[Any, ...]):
        self.blocks = nnx.List([Block(kind, config, rngs, *beside) for kind in group.unit])


class Stack(nnx.Module):
    """Groups of blocks, and the norm after them."""

    def __init__(
        self,
        config: StackConfig,
        rngs: nnx.Rngs,
        attended_dim: int | None = None,
        modulation: ModulationConfig | None = None,
    ):
        """Makes the blocks.

        Args:
          config: of the stack.
          rngs: of the parameters.
          attended_dim: width of what every block attends to; None: there is no cross-attention.
          modulation: of the vector by which every block is modulated; None: there is none.
        """
        self.config = config
        self.repeats = tuple(group.repeats for group in config.groups)
        beside = attended_dim, modulation
        self.groups = nnx.List(
            [
                repeated(
                    functools.partial(Unit, group, config, beside=beside),
                    group.repeats,
                    rngs.params(),
                )
                for group in config.groups
            ]
        )
        self.relative = make_relative(config, rngs, per_layer=False)
        has_norm = config.norm_placement != "post"
        self.final_norm = Norm(config, rngs) if has_norm else None

    def __call__(
        self,
        x: jax.Array,
        tokens: RoutedTokens,
        contexts: dict[LayerConfig, AttentionContext],
        cached: KeyValues | None = None,
        encoder: EncoderOutput | None = None,
        key: jax.Array | None = None,
        num_layers: int | None = None,
        vector: jax.Array | None = None,
        last: int | None = None,
    ) -> StackOutput:
        """Runs the blocks.

        Args:
          x: [batch, length, embed].
          tokens: what routers know of them.
          contexts: of every kind of layer.
          cached: keys and values of a cache; the written ones are returned.
          encoder: of an encoder-decoder.
          key: of a training pass.
          num_layers: the first blocks that are run, without a norm after them; None: all.
          vector: [batch, 1, dim], what modulated blocks are told of each row.
          last: how many blocks there are after the stream that is returned as `earlier`; None: it
            is not returned. There is no cache then.
        """
        keeps = cached is not None
        before, after = spans_of(self.config, num_layers, last)
        cross = None if encoder is None else encoder.key_values
        ordered = tuple(contexts[layer] for layer in self.config.kinds_of_layers)
        read = _Read(tokens, ordered, encoder, vector)
        written, router = [], []
        earlier = x
        for place, (index, run) in enumerate([*before, *after]):
            unit, keys = self.groups[index], None
            if key is not None:
                keys = jax.random.split(jax.random.fold_in(key, index), run.stop)[run.start :]
            if is_split_over_stages() and not keeps and len(run) == self.repeats[index]:
                x, statistics = self._pipelined(unit, len(run), x, read, keys)
            else:
                own = None if cached is None else cached[index]
                caches = own, None if cross is None else cross[index]
                x, (statistics, *new) = self._scanned(unit, run, x, read, caches, keys, keeps)
                written.append(new)
            if statistics is not None:
                router.append(jax.tree.map(jnp.concatenate, statistics))
            if place < len(before):
                earlier = x
        hidden = x if self.final_norm is None or num_layers is not None else self.final_norm(x)
        all_router = jax.tree.map(lambda *s: jnp.concatenate(s), *router) if router else None
        if not keeps:
            return StackOutput(hidden, all_router, None, None, None if last is None else earlier)
        key_values, cross = (tuple(column) for column in zip(*written, strict=True))
        return StackOutput(hidden, all_router, key_values, None if encoder is None else cross)

    def _scanned(self, unit: Unit, run: range, x, read: _Read, caches, keys, keeps: bool):
        """Returns the stream after a group, and of its units the routers' statistics and caches."""
        repeats = len(run)
        is_split = is_split_over_stages()
        if mesh_is_set() and not is_split:
            unit = jax.tree.map(with_whole_layers, unit)
        if not is_split and repeats < jax.tree.leaves(unit)[0].shape[0]:
            unit = jax.tree.map(lambda leaf: leaf[run.start : run.stop], unit)
        numbers = jnp.arange(run.start, run.stop) if is_split else None

        def run_unit(x, scanned):
            one, number, (own, cross), unit_key = scanned
            one = layer_of_stages(unit, number) if is_split else one
            x, reports, statistics, new, new_cross = self._run(one, x, read, own, cross, unit_key)
            ys = (new, new_cross) if keeps else (None, None)
            return x, (reports, statistics, *ys)

        scanned = None if is_split else unit, numbers, caches, keys
        x, (reports, *of_units) = scan_units(run_unit, x, scanned, repeats)
        report_scanned(reports, repeats)
        return x, of_units

    def _pipelined(self, unit: Unit, repeats: int, x: jax.Array, read: _Read, keys):
        """Returns the stream after a group, and the routers' statistics [units, ...]."""
        layout = current_layout()
        inner = layout.within_stage()
        batch = inner.rules.mesh_axes("batch")

        def whole(x):
            return reshard(x, jax.P(batch, *jax.typeof(x).sharding.spec[1:]))

        biases = tuple(context.bias for context in read.contexts)
        contexts = tuple(dataclasses.replace(one, bias=None) for one in read.contexts)
        rows = jax.tree.map(whole, (x, read._replace(contexts=contexts)))
        here = x.shape[0] // num_parts(axis_names(batch))
        schedule = make_schedule(layout.pipeline, num_stages(), here, repeats)
        log_schedule(schedule)
        stream, rows = in_microbatches(rows, schedule.microbatches)

        def run(x, units, microbatch: Microbatch):
            read, (biases, keys) = microbatch.rows, microbatch.shared
            contexts = zip(read.contexts, biases, strict=True)
            read = read._replace(
                contexts=tuple(dataclasses.replace(one, bias=bias) for one, bias in contexts)
            )

            def run_unit(x, scanned):
                unit, number = scanned
                key = None
                if keys is not None:
                    key = jax.random.fold_in(keys[number], microbatch.number)
                x, reports, statistics, *_ = self._run(unit, x, read, None, None, key)
                if reports:
                    raise ShardingError(
                        "values inside a model cannot be looked at in pipeline stages; "
                        "set mesh.stage=1."
                    )
                return x, statistics

            count = jax.tree.leaves(units)[0].shape[0]
            numbers = microbatch.first_unit + jnp.arange(count)
            return scan_units(run_unit, x, (units, numbers), count)

        with using(inner):
            x, statistics = run_pipeline(run, schedule, unit, stream, rows, (biases, keys))
        return reshard(from_microbatches(x), spec("batch", "length", None)), statistics

    def _run(self, unit: Unit, x: jax.Array, read: _Read, own, cross, key):
        """Returns the stream after a unit, its reports, statistics and caches."""
        contexts = dict(zip(self.config.kinds_of_layers, read.contexts, strict=True))
        statistics, new, new_cross = [], [], []
        with collected() as reports:
            for place, block in enumerate(unit.blocks):
                x, statistic, key_value, cross_key_value = block(
                    x,
                    read.tokens,
                    contexts[block.layer],
                    None if own is None else own[place],
                    read.encoder,
                    None if cross is None else cross[place],
                    None if key is None else jax.random.fold_in(key, place),
                    read.vector,
                )
                statistics += [] if statistic is None else [statistic]
                new.append(key_value)
                new_cross.append(cross_key_value)
        return x, reports, _stacked(statistics), tuple(new), tuple(new_cross)


def scan_units(run_unit: Callable[..., Any], x: Any, scanned: Any, count: int) -> Any:
    """Scans over units as the layout says: what is computed again, how many at once."""
    layout = current_layout()
    body = rematerialised(run_unit, layout.remat, layout.remat_saved, layout.remat_offloaded)
    return jax.lax.scan(body, x, scanned, unroll=min(layout.scan_unroll, count))


def _stacked(statistics: list[RouterStatistics]) -> RouterStatistics | None:
    return jax.tree.map(lambda *s: jnp.stack(s), *statistics) if statistics else None


def repeated(make: Callable[[nnx.Rngs], Any], repeats: int, key: jax.Array) -> Any:
    """Returns a module with parameters [repeats, ...], made on the stages that keep them."""
    keys = jax.random.split(key, repeats)
    if mesh_is_set():
        keys = reshard(keys, current_layout().rules.stored(("layers",)))

    def make_one(key):
        return make(nnx.Rngs(params=key))

    def add_layers_axis(parameter):
        return nnx.Param(parameter[...], logical_axes=("layers", *parameter.logical_axes))

    return jax.tree.map(
        add_layers_axis, jax.vmap(make_one)(keys), is_leaf=lambda x: isinstance(x, nnx.Param)
    )
