"""The Splash kernel of one device, and the masks it is made for."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask

from jaxgen.ops.attention.masks import Predicate, may_allow

BLOCKS = 512, 256, 128
"""Sizes of the kernel's blocks, the best first; the largest that divides a length is taken."""


@dataclasses.dataclass(frozen=True)
class PlaceMask(splash_attention_mask.Mask):
    """A mask of Splash that is computed where it is needed: here, or in the kernel.

    Attributes:
      predicates: of which all must allow a key.
      size: queries and keys of the row.
    """

    predicates: tuple[Predicate, ...]
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.size

    @property
    def q_sequence(self) -> np.ndarray:
        """The queries' places, which the kernel gives to `mask_function`."""
        return np.arange(self.size[0], dtype=np.int32)

    def mask_function(self, queries: Any, keys: Any) -> Any:
        """Returns whether keys at these places are allowed to queries at those."""
        return may_allow(self.predicates, queries - keys)

    def __getitem__(self, idx) -> np.ndarray:
        """Returns a block; Splash reads every one of them, more than once."""
        rows, columns = (range(*part.indices(n)) for part, n in zip(idx, self.size, strict=True))
        behind = np.arange(rows[0] - columns[-1], rows[-1] - columns[0] + 1)
        allowed = may_allow(self.predicates, behind)
        if allowed.all() or not allowed.any():
            return _uniform(len(rows), len(columns), bool(allowed[0]))
        return np.lib.stride_tricks.sliding_window_view(allowed, len(columns))[:, ::-1]


@functools.lru_cache(maxsize=16)
def _uniform(rows: int, columns: int, value: bool) -> np.ndarray:
    return np.full((rows, columns), value)


def run_kernel(
    predicates: tuple[Predicate, ...],
    soft_cap: float | None,
    interpret: bool,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segments: tuple[jax.Array, jax.Array],
    sinks: jax.Array | None,
) -> jax.Array:
    """Returns [batch, heads, queries, value_dim] of one device's rows and heads.

    Args:
      predicates: of which all must allow a key.
      soft_cap: see `AttentionCall`.
      interpret: whether to run the kernel's steps as ordinary operations.
      query: [batch, heads, queries, head_dim], already scaled.
      key: [batch, kv_heads, keys, head_dim].
      value: [batch, kv_heads, keys, value_dim].
      segments: of queries and of keys, [batch, length] int32.
      sinks: [heads] float32, or None.
    """
    mask = PlaceMask(predicates, (query.shape[2], key.shape[2]))
    q, kv = (next(size for size in BLOCKS if n % size == 0) for n in mask.size)
    kernel: Any = splash.make_splash_mha(
        splash_attention_mask.MultiHeadMask([mask] * query.shape[1]),
        block_sizes=splash.BlockSizes(q, kv, kv, q, kv, kv, q, kv),
        attn_logits_soft_cap=soft_cap,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def row(query, key, value, ids):
        return kernel(query, key, value, splash.SegmentIds(*ids), sinks)

    return jax.vmap(row)(query, key, value, segments)
