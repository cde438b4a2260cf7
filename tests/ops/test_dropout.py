import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.attention.attend import attend
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, attention_side
from jaxgen.ops.dropout import dropout, split
from jaxgen.sharding.layout import Layout, using


def test_the_rate_is_dropped_and_the_rest_is_grown():
    y = np.asarray(dropout(jnp.ones((1000, 100)), 0.3, jax.random.key(0)))
    # Six standard deviations of 100,000 draws.
    assert abs((y == 0).mean() - 0.3) < 6 * np.sqrt(0.3 * 0.7 / y.size)
    np.testing.assert_allclose(y[y > 0], 1 / 0.7, rtol=1e-6)


def test_keys_decide_and_no_key_leaves_all():
    x = jnp.ones((8, 8))
    first, second = (dropout(x, 0.5, jax.random.key(n)) for n in (0, 1))
    np.testing.assert_array_equal(first, dropout(x, 0.5, jax.random.key(0)))
    assert (first != second).any()
    assert dropout(x, 0.5, None) is x and dropout(x, 0.0, jax.random.key(0)) is x
    assert split(None, 3) == [None] * 3
    keys = split(jax.random.key(0), 3)
    assert (
        len(
            {
                tuple(np.asarray(jax.random.key_data(key)).tolist())
                for key in keys
                if key is not None
            }
        )
        == 3
    )


def test_attention_drops_weights_not_values():
    """With values of one, an output is the sum of the weights that stayed, each grown."""
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 2, 64, 8))
    value = jnp.ones((1, 2, 64, 1))
    side = attention_side(jnp.zeros((1, 64), jnp.int32), jnp.ones((1, 64), jnp.int32))
    mask = AttentionMask((), side, side)
    call = AttentionCall(jnp.zeros_like(query), key, value, mask, dropout_rate=0.25)
    with using(Layout()):
        mixed = attend(dataclasses.replace(call, dropout_key=jax.random.key(1)))
        without = attend(call)
    kept = np.asarray(mixed) * 64 * 0.75
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert abs(kept.mean() / 64 - 0.75) < 6 * np.sqrt(0.25 * 0.75 / (2 * 64 * 64))
    np.testing.assert_allclose(without, 1, rtol=1e-6)
