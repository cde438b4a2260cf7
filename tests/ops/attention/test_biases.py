"""Biases by distance: the papers' numbers, and blocks that are parts of the whole."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.attention.biases import Alibi, AttentionBias, RelativeBias
from jaxgen.sharding.layout import Layout, using


def test_alibi_slopes_are_the_papers():
    np.testing.assert_allclose(Alibi().slopes(8), [2.0**-n for n in range(1, 9)])
    np.testing.assert_allclose(Alibi().slopes(16), [2.0 ** (-n / 2) for n in range(1, 17)])
    # For 12 heads the authors take the 8 of 8 heads and every other one of 16.
    extra = [2.0 ** (-n / 2) for n in (1, 3, 5, 7)]
    np.testing.assert_allclose(
        Alibi().slopes(12), [2.0**-n for n in range(1, 9)] + extra, rtol=1e-6
    )


def test_t5_buckets_are_single_then_logarithmic():
    """The thresholds worked out by hand: with 16 one-way buckets, 8 single, the rest up to 128."""
    one_way = RelativeBias(16, 128).buckets
    assert [int(one_way(jnp.array(-d), False)) for d in range(8)] == list(range(8))
    # Bucket b of 8.. begins at 8 * 16 ** ((b - 8) / 8).
    starts = [math.ceil(8 * 16 ** (n / 8) - 1e-6) for n in range(8)]
    for n, start in enumerate(starts):
        assert int(one_way(jnp.array(-start), False)) == 8 + n
        assert int(one_way(jnp.array(-(start - 1)), False)) == 7 + n
    assert {int(one_way(jnp.array(-d), False)) for d in (113, 128, 500)} == {15}
    assert int(one_way(jnp.array(3), False)) == 0


def test_t5_buckets_of_both_ways_are_mirrored():
    distances = jnp.arange(1, 300)
    back = RelativeBias().buckets(-distances, True)
    ahead = RelativeBias().buckets(distances, True)
    np.testing.assert_array_equal(ahead, back + 16)
    np.testing.assert_array_equal(back, RelativeBias(16).buckets(-distances, False))


@pytest.mark.parametrize("kind", [Alibi(), RelativeBias(8, 16)])
@pytest.mark.parametrize("both_ways", [False, True])
def test_a_block_is_made_of_the_distances_in_it(kind, both_ways):
    places = jnp.arange(11)[None]
    table = jax.random.normal(jax.random.key(0), (8, 4)) if kind.num_rows else None
    bias = AttentionBias(kind, 4, both_ways, places, places, consecutive=False, table=table)
    by_diagonals = dataclasses.replace(bias, consecutive=True)

    def whole(bias, table):
        return dataclasses.replace(bias, table=table).dense()

    with using(Layout()):
        blocks = (slice(None), slice(None)), (slice(4, 9), slice(0, 9)), (slice(3, 4), slice(2, 11))
        for rows, columns in blocks:
            expected = bias.dense()[:, :, rows, columns]
            np.testing.assert_array_equal(bias.dense(rows, columns), expected)
            np.testing.assert_array_equal(by_diagonals.dense(rows, columns), expected)
        if table is None:
            distances = np.arange(11)[None, :] - np.arange(11)[:, None]
            steepest = -abs(distances) * 2.0**-2
            np.testing.assert_allclose(bias.dense()[0, 0], steepest)
            return
        cotangent = jax.random.normal(jax.random.key(1), (1, 4, 11, 11))
        gradients = [
            jax.vjp(lambda t, b=b: whole(b, t), table)[1](cotangent)[0]
            for b in (bias, by_diagonals)
        ]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
