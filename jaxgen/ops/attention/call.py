"""What an implementation of attention computes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from jaxgen.ops.attention.biases import AttentionBias
from jaxgen.ops.attention.masks import AttentionMask
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import mesh_is_set


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("query", "key", "value", "mask", "bias", "dropout_key", "sinks"),
    meta_fields=("soft_cap", "dropout_rate"),
)
@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """A call of attention: its operands, head-major throughout.

    Attributes:
      query: [batch, heads, queries, head_dim], already scaled.
      key: [batch, kv_heads, keys, head_dim]; heads is a multiple of kv_heads.
      value: [batch, kv_heads, keys, value_dim].
      mask: which keys a query attends to.
      bias: added to the logits, or None.
      soft_cap: logits become cap * tanh(logits / cap), before the bias.
      dropout_rate: of the weights.
      dropout_key: None leaves the dropout out.
      sinks: [heads] float32, logits of no key that weights are normalised with, or None.
    """

    query: Any
    key: Any
    value: Any
    mask: AttentionMask
    bias: AttentionBias | None = None
    soft_cap: float | None = None
    dropout_rate: float = 0.0
    dropout_key: Any = None
    sinks: Any = None

    @property
    def key_axes(self) -> tuple[str, ...]:
        """The mesh axes that split the length of the keys; none where each device has them all."""
        if not mesh_is_set():
            return ()
        return axis_names(jax.typeof(self.key).sharding.spec[2])

    @property
    def drops(self) -> bool:
        """Whether weights are dropped."""
        return self.dropout_rate > 0 and self.dropout_key is not None
