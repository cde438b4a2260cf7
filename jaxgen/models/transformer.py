"""The decoder-only transformer: a pytree of parameters and a pure function of a batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.batch import Batch
from jaxgen.models.block import Block
from jaxgen.models.cache import Cache
from jaxgen.models.config import TransformerConfig
from jaxgen.models.embedding import Embedding
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import gather, make_parameter, named_parameters, normal
from jaxgen.models.positions import rotary_angles
from jaxgen.models.routing import RouterStatistics
from jaxgen.models.visibility import cached_causal, packed_causal
from jaxgen.sharding.checks import check_layout
from jaxgen.sharding.rules import Rules, einsum, reshard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output:
    """What the model makes of a batch.

    Attributes:
      hidden: [batch, length, embed] after the final norm.
      router: statistics of each sparse layer, stacked [sparse layers, ...]; None without any.
      cache: the written cache, if one was given.
    """

    hidden: Any
    router: RouterStatistics | None
    cache: Cache | None


class Unit(nnx.Module):
    """The group of blocks that repeats over depth."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules):
        self.blocks = nnx.List([Block(kind, config, rngs, rules) for kind in config.unit])


class Transformer(nnx.Module):
    """Embedding, scanned units, final norm; `logits` and the objective turn hidden into tokens.

    Under `jax.set_mesh` every parameter is born in its layout; without a mesh the same code runs
    on one device.
    """

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, rules: Rules | None = None):
        rules = Rules() if rules is None else rules
        self.config = config
        self.rules = rules
        self.embedding = Embedding(config, rngs, rules)
        self.units = _stack_units(config, rngs.params(), rules)
        self.final_norm = Norm(config, rngs, rules)
        shape, axes = (config.vocab_size, config.embed_dim), ("vocab", "embed")
        start = normal(config.embed_dim**-0.5)
        self.unembedding = (
            None if config.tie_embeddings else make_parameter(rngs, rules, shape, axes, start)
        )

    def __call__(self, batch: Batch, cache: Cache | None = None) -> Output:
        """Runs the blocks over a batch, or over new tokens that follow those in `cache`.

        With a cache the row of a batch is one sequence, the slot of a token is its position, and
        tokens of segment 0 (padding) are not kept.
        """
        config = self.config
        tokens_layout = self.rules.activation("batch", "length")
        batch = jax.tree.map(lambda x: reshard(jnp.asarray(x), tokens_layout), batch)
        x = self.embedding(batch.tokens, batch.positions)
        angles = None
        if config.positions == "rope":
            angles = rotary_angles(batch.positions, config.width_of_head, config.rope_base)
        slots = None
        whole = self.rules.activation("batch", None)
        if cache is None:
            visible = packed_causal(
                batch.positions,
                batch.segment_ids,
                reshard(batch.positions, whole),
                reshard(batch.segment_ids, whole),
            )
        else:
            slots = jnp.where(batch.segment_ids > 0, batch.positions, cache.capacity)
            slots = reshard(slots, whole)
            filled = jax.vmap(lambda row, slot: row.at[slot].set(True, mode="drop"))(
                cache.filled, slots
            )
            visible = cached_causal(batch.positions, filled)
            cache = dataclasses.replace(cache, filled=filled)

        def run_unit(x, scanned):
            unit, cached = scanned
            statistics, written = [], []
            for index, block in enumerate(unit.blocks):
                pair = None if cached is None else (cached[0][index], cached[1][index])
                x, statistic, pair = block(x, batch.segment_ids, visible, angles, pair, slots)
                statistics.append(statistic)
                written.append(pair)
            router = [statistic for statistic in statistics if statistic is not None]
            pairs = None if cached is None else tuple(zip(*written, strict=True))
            return x, (router[0] if router else None, pairs)

        scanned = (self.units, None if cache is None else (cache.keys, cache.values))
        x, (router, pairs) = jax.lax.scan(
            rematerialised(run_unit, config.remat),
            x,
            scanned,
            unroll=min(config.scan_unroll, config.num_units),
        )
        if cache is not None and pairs is not None:
            cache = dataclasses.replace(cache, keys=pairs[0], values=pairs[1])
        return Output(self.final_norm(x), router, cache)

    def unembedding_table(self, dtype: Any) -> jax.Array:
        """The table that turns hidden into logits, [vocab, embed], whole over fsdp."""
        parameter = self.embedding.table if self.unembedding is None else self.unembedding
        return gather(parameter, self.rules, dtype)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[batch, length, embed] -> [batch, length, vocab] float32; for few positions at a time."""
        table = self.unembedding_table(hidden.dtype)
        layout = self.rules.activation("batch", "length", "vocab")
        logits = einsum("btd,vd->btv", hidden, table, out=layout).astype(jnp.float32)
        cap = self.config.logit_soft_cap
        return logits if cap is None else cap * jnp.tanh(logits / cap)


def rematerialised(function, policy: str):
    """The function, recomputing in its backward pass what the policy's name says."""
    if policy == "none":
        return function
    policies = {
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "full": jax.checkpoint_policies.nothing_saveable,
    }
    return jax.checkpoint(function, policy=policies[policy], prevent_cse=False)


def _stack_units(config: TransformerConfig, key: jax.Array, rules: Rules) -> Unit:
    keys = jax.random.split(key, config.num_units)
    units = jax.vmap(lambda key: Unit(config, nnx.Rngs(params=key), rules))(keys)

    def add_layers_axis(parameter):
        return nnx.Param(parameter[...], logical_axes=("layers", *parameter.logical_axes))

    return jax.tree.map(add_layers_axis, units, is_leaf=lambda x: isinstance(x, nnx.Param))


def abstract_transformer(config: TransformerConfig, rules: Rules | None = None) -> Transformer:
    """The model's tree with shapes (and, under a mesh, layouts) but no memory."""
    return jax.eval_shape(lambda: Transformer(config, nnx.Rngs(0), rules))


def check_model_fits(config: TransformerConfig, rules: Rules, mesh: jax.sharding.Mesh) -> None:
    """Raises ShardingError, naming the parameter, if the mesh does not divide it."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        abstract = abstract_transformer(config, rules)
    arrays = ((name, p.shape, p.logical_axes) for name, p in named_parameters(abstract))
    check_layout(arrays, rules, dict(mesh.shape))
