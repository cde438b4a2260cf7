"""The context that the attentions of a pass share: masks, angles of positions, biases."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import KeyValues
from jaxgen.models.parameters import gather
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.biases import AttentionBias
from jaxgen.ops.attention.masks import (
    AttentionMask,
    AttentionSide,
    attention_side,
    looks_ahead,
)
from jaxgen.sharding.layout import keys_length, length_is_whole, spec
from jaxgen.sharding.rules import reshard


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("mask", "bias", "angles", "temperature", "slots"),
    meta_fields=("logit_factor", "keys_length"),
)
@dataclasses.dataclass(frozen=True)
class AttentionContext:
    """A context is all that a kind of layer attends by, beside queries, keys and values.

    Attributes:
      mask: which keys a query attends to.
      bias: on the logits, or None; without its table where each layer has its own.
      angles: cosine and sine of the queries' rotary positions, or None.
      temperature: [batch, queries] float32 on the queries, or None.
      logit_factor: on the logits.
      slots: [batch, queries] int32, where the new keys go in a cache, or None.
      keys_length: the logical axis of the keys' length; None: each device has them all.
    """

    mask: AttentionMask
    bias: AttentionBias | None = None
    angles: tuple[Any, Any] | None = None
    temperature: Any = None
    logit_factor: float = 1.0
    slots: Any = None
    keys_length: str | None = None


class EncoderOutput(NamedTuple):
    """An encoder's output, as cross-attention attends to it.

    Attributes:
      hidden: [batch, encoder length, embed], or None where `key_values` hold what was made of it.
      context: of the decoder's queries and the encoder's tokens.
      key_values: keys and values of every block, or None.
    """

    hidden: jax.Array | None
    context: AttentionContext
    key_values: KeyValues | None = None


def make_contexts(
    config: StackConfig,
    queries: AttentionSide,
    keys: AttentionSide,
    slots: jax.Array | None,
    relative: nnx.Param | None,
    places: jax.Array | None = None,
) -> dict[LayerConfig, AttentionContext]:
    """Returns the context of each kind of layer of a stack; made once a pass, outside its scan.

    Args:
      config: of the stack.
      queries: of the tokens that are new.
      keys: of all tokens, split as `keys_length` says.
      slots: where the queries' keys go in a cache, or None.
      relative: the stack's own table of biases, if it has one.
      places: of the queries, see `Batch.places`.
    """
    layers = config.kinds_of_layers
    same_tokens = slots is None and length_is_whole()
    both_ways = any(looks_ahead(layer.mask) for layer in layers)
    bias = with_table(_bias(config, queries, keys, slots is not None, both_ways), relative)
    angles = {}
    for rope in (layer.rope for layer in layers):
        if rope is not None and rope not in angles:
            width = config.latent.rope_dim if config.latent else config.width_of_head
            length = jnp.max(keys.positions, axis=1, keepdims=True) + 1
            angles[rope] = rope.angles(queries.positions, width, length, places)
    return {
        layer: AttentionContext(
            AttentionMask(layer.mask, queries, keys, same_tokens),
            bias,
            angles.get(layer.rope),
            temperature=layer.temperature and layer.temperature.factor(queries.positions),
            logit_factor=(
                layer.rope.scaling.logit_factor() if layer.rope and layer.rope.scaling else 1.0
            ),
            slots=slots,
            keys_length=None if slots is not None else keys_length(),
        )
        for layer in layers
    }


def with_table(bias: AttentionBias | None, table: nnx.Param | None) -> AttentionBias | None:
    """Returns the bias with the table that a stack or a layer has for it, if it has one."""
    if bias is None or table is None:
        return bias
    return dataclasses.replace(bias, table=gather(table, jnp.float32))


def _bias(config, queries, keys, is_cached: bool, both_ways: bool) -> AttentionBias | None:
    kind, heads = config.position_bias, config.num_heads
    if kind is None:
        return None
    if is_cached:
        return AttentionBias(kind, heads, both_ways, queries.positions, keys.positions, False)
    # Inside a segment the places of a row are as far apart as the positions.
    places = jnp.arange(keys.positions.shape[1], dtype=jnp.int32)[None]
    split = reshard(places, spec(None, "length"))
    keyed = reshard(places, spec(None, keys_length()))
    return AttentionBias(kind, heads, both_ways, split, keyed, length_is_whole())


def cross_context(segment_ids: jax.Array, encoder_segment_ids: jax.Array) -> AttentionContext:
    """Returns the context in which targets attend to their own segment of the encoder's input."""
    queries, keys = (attention_side(ids, ids) for ids in (segment_ids, encoder_segment_ids))
    return AttentionContext(AttentionMask((), queries, keys))
