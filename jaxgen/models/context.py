"""What the layers of a pass share: who sees whom, the angles of positions, biases by distance."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parameters import gather
from jaxgen.ops.positions import Alibi, RelativeBias
from jaxgen.ops.visibility import Places, looks_ahead, visible
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import mesh_is_set, reshard


@dataclasses.dataclass(frozen=True)
class View:
    """How the queries of one kind of layer see the keys.

    Attributes:
      visible: [batch, queries, keys] bool.
      looks_ahead: whether a later key may be visible.
      is_self: whether keys and queries are of one sequence.
      angles: cosine and sine of the queries' rotary positions, or None.
      temperature: [batch, queries] float32 on the queries, or None.
      logit_factor: on the logits.
      bias: [1 or batch, heads, queries, keys] float32 on the logits, or None.
      buckets: [1 or batch, queries, keys] int32 of a learned bias, or None.
      slots: [batch, queries] int32, where the new keys go in a cache, or None.
    """

    visible: Any
    looks_ahead: bool = True
    is_self: bool = True
    angles: tuple[Any, Any] | None = None
    temperature: Any = None
    logit_factor: float = 1.0
    bias: Any = None
    buckets: Any = None
    slots: Any = None

    def relative_bias(self, table: nnx.Param) -> jax.Array:
        """[1 or batch, heads, queries, keys] float32 from a [buckets, heads] table."""
        rows = gather(table, jnp.float32)
        if not mesh_is_set():
            return rows[self.buckets].transpose(0, 3, 1, 2)
        split = jax.typeof(self.buckets).sharding.spec
        bias = rows.at[self.buckets].get(out_sharding=jax.P(*split, *spec("heads")))
        return bias.transpose(0, 3, 1, 2)


def make_views(
    config: TransformerConfig,
    layers: tuple[LayerConfig, ...],
    queries: Places,
    keys: Places,
    slots: jax.Array | None,
    relative: nnx.Param | None,
) -> dict[LayerConfig, View]:
    """The view of each kind of layer of a stack; made once a pass, outside the loop over layers.

    Args:
      config: the model.
      layers: the kinds.
      queries: of the tokens that are new.
      keys: of all tokens, whole along their length.
      slots: where the queries' keys go in a cache, or None.
      relative: the stack's own table of biases, if it has one.
    """
    ahead = any(looks_ahead(layer.visibility) for layer in layers)
    common = _biases(config, queries, keys, slots is not None, ahead, relative)
    angles, seen = {}, {}
    for layer in layers:
        if layer.rope not in angles and layer.rope is not None:
            width = config.latent.rope_dim if config.latent else config.width_of_head
            angles[layer.rope] = layer.rope.angles(queries.positions, width)
        if layer.visibility not in seen:
            seen[layer.visibility] = visible(layer.visibility, queries, keys)
    return {
        layer: dataclasses.replace(
            common,
            visible=seen[layer.visibility],
            looks_ahead=looks_ahead(layer.visibility),
            angles=angles.get(layer.rope),
            temperature=layer.temperature and layer.temperature.factor(queries.positions),
            logit_factor=(
                layer.rope.scaling.logit_factor() if layer.rope and layer.rope.scaling else 1.0
            ),
            slots=slots,
        )
        for layer in layers
    }


def _biases(config, queries, keys, is_cached, ahead, relative) -> View:
    """A view with the biases that all layers share."""
    position_bias, view = config.position_bias, View(visible=None)
    if position_bias is None:
        return view
    if is_cached:
        distances = keys.positions[:, None, :] - queries.positions[:, :, None]
    else:
        # Inside a segment the places of a row are as far apart as the positions.
        places = jnp.arange(keys.positions.shape[1], dtype=jnp.int32)
        distances = (places[None, :] - places[:, None])[None]
        distances = reshard(distances, spec(None, "length", None))
    if isinstance(position_bias, Alibi):
        slopes = jnp.asarray(position_bias.slopes(config.num_heads))
        slopes = reshard(slopes, spec("heads"))
        away = -jnp.abs(distances).astype(jnp.float32)
        return dataclasses.replace(view, bias=slopes[None, :, None, None] * away[:, None])
    assert isinstance(position_bias, RelativeBias)
    view = dataclasses.replace(view, buckets=position_bias.buckets(distances, both_ways=ahead))
    if relative is not None:
        view = dataclasses.replace(view, bias=view.relative_bias(relative))
    return view
