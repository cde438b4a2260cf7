"""Calls of attention drawn for tests, and what implementations of it must agree on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.attention.biases import Alibi, AttentionBias, RelativeBias
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.masks import AttentionMask, attention_side
from jaxgen.sharding.layout import Layout, using


@dataclasses.dataclass(frozen=True)
class EveryOther:
    """A predicate of one's own: keys an even number of positions back."""

    looks_ahead = True

    def allows(self, queries, keys):
        return (queries.positions[:, :, None] - keys.positions[:, None, :]) % 2 == 0


def packed_side(segments, blocks=None):
    """Rows of segments of these lengths, each row's last one padding; all rows are as long."""
    ids = [np.repeat([*range(1, len(row)), 0], row) for row in segments]
    positions = [np.concatenate([np.arange(n) for n in row]) for row in segments]
    ids, positions = jnp.array(ids, jnp.int32), jnp.array(positions, jnp.int32)
    return attention_side(positions, ids, None if blocks is None else positions // blocks)


def make_call(
    predicates,
    segments,
    heads=4,
    kv_heads=2,
    dims=(8, 8),
    bias=None,
    soft_cap=None,
    sinks=False,
    dtype=jnp.float32,
    blocks=None,
    seed=0,
):
    """Self-attention over packed rows; `bias` is a kind of bias."""
    side = packed_side(segments, blocks)
    batch, length = side.positions.shape
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = (heads, dims[0]), (kv_heads, dims[0]), (kv_heads, dims[1])
    query, key, value = (
        jax.random.normal(k, (batch, n, length, d)).astype(dtype)
        for k, (n, d) in zip(keys, shapes, strict=False)
    )
    if bias is not None:
        places = jnp.arange(length, dtype=jnp.int32)[None]
        table = 2 * jax.random.normal(keys[3], (bias.num_rows, heads)) if bias.num_rows else None
        bias = AttentionBias(bias, heads, False, places, places, True, table)
    return AttentionCall(
        query,
        key,
        value,
        AttentionMask(predicates, side, side, same_tokens=True),
        bias,
        soft_cap,
        sinks=jax.random.normal(keys[4], (heads,)) if sinks else None,
    )


def outputs_and_gradients(call: AttentionCall, attention):
    """What comes out for tokens that are not padding, and the gradients of some function of it."""
    table = None if call.bias is None else call.bias.table
    is_token = (call.mask.queries.segment_ids > 0)[:, None, :, None]
    weights = np.sin(np.arange(np.prod(call.query.shape[:3]) * call.value.shape[3]))
    weights = weights.reshape(*call.query.shape[:3], call.value.shape[3]).astype(np.float32)

    def compute(floats):
        query, key, value, sinks, table = floats
        bias = call.bias and dataclasses.replace(call.bias, table=table)
        one = dataclasses.replace(call, query=query, key=key, value=value, sinks=sinks, bias=bias)
        with using(Layout()):
            out = jnp.where(is_token, attention(one), 0)
        return jnp.sum(out.astype(jnp.float32) * weights), out

    floats = call.query, call.key, call.value, call.sinks, table
    (_, out), gradients = jax.value_and_grad(compute, has_aux=True)(floats)
    return out, gradients


def assert_as_dense(call: AttentionCall, attention, tolerance=1e-5):
    """Asserts outputs and gradients of dense attention, within a share of the largest number."""
    both = jax.jit(
        lambda call: [outputs_and_gradients(call, f) for f in (attention, dense_attention)]
    )
    found, expected = both(call)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
        largest = max(np.abs(other).max(), 1)
        np.testing.assert_allclose(one / largest, other / largest, rtol=0, atol=tolerance)


BIASES = (None, Alibi(), RelativeBias(num_buckets=8, max_distance=20))
