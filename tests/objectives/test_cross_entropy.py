import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.objectives.cross_entropy import cross_entropy
from jaxgen.sharding.rules import Rules


def reference(hidden, table, bias, targets, weights, z_loss, smoothing, soft_cap):
    """The direct form, with all logits at once."""
    logits = hidden @ table.T + bias
    if soft_cap is not None:
        logits = soft_cap * jnp.tanh(logits / soft_cap)
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    z = jax.nn.logsumexp(logits, axis=-1)
    labels = optax.smooth_labels(jax.nn.one_hot(targets, logits.shape[-1]), smoothing)
    smoothed = optax.softmax_cross_entropy(logits, labels)
    return jnp.sum(weights * (smoothed + z_loss * z**2)), nll, jnp.argmax(logits, -1) == targets


@pytest.mark.parametrize("soft_cap", [None, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("positions_at_a_time", [None, 3 * 4, 1])
def test_chunks_give_the_loss_and_gradients_of_the_direct_form(
    soft_cap, smoothing, positions_at_a_time
):
    keys = jax.random.split(jax.random.key(0), 5)
    hidden = jax.random.normal(keys[0], (3, 10, 16))
    table = jax.random.normal(keys[1], (50, 16))
    targets = jax.random.randint(keys[2], (3, 10), 0, 50)
    weights = jax.random.uniform(keys[3], (3, 10))
    bias = jax.random.normal(keys[4], (50,))

    def chunked(hidden, table, bias):
        return cross_entropy(
            hidden, table, targets, weights, bias=bias, rules=Rules(), z_loss=1e-2,
            label_smoothing=smoothing, soft_cap=soft_cap, positions_at_a_time=positions_at_a_time,
        )  # fmt: skip

    def direct(hidden, table, bias):
        loss, nll, correct = reference(
            hidden, table, bias, targets, weights, 1e-2, smoothing, soft_cap
        )
        return loss, (nll, correct)

    parameters, which = (hidden, table, bias), (0, 1, 2)
    (loss, tokens), gradients = jax.value_and_grad(chunked, which, has_aux=True)(*parameters)
    (expected, (nll, correct)), wanted = jax.value_and_grad(direct, which, has_aux=True)(
        *parameters
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(tokens.negative_log_likelihood, nll, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(tokens.correct, correct)
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("soft_cap", [None, 5.0])
def test_rows_that_pad_a_table_have_no_probability_and_no_gradient(soft_cap):
    """However large their logits would be."""
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, table = jax.random.normal(keys[0], (3, 10, 16)), jax.random.normal(keys[1], (56, 16))
    table = table.at[50:].multiply(10)
    targets = jax.random.randint(keys[2], (3, 10), 0, 50)
    bias, weights = jax.random.normal(keys[3], (56,)), jnp.ones((3, 10))

    def loss(hidden, table, bias, vocab_size=None):
        return cross_entropy(
            hidden, table, targets, weights, bias=bias, rules=Rules(), z_loss=1e-2,
            label_smoothing=0.1, soft_cap=soft_cap, vocab_size=vocab_size,
        )  # fmt: skip

    differentiate = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    (value, tokens), gradients = differentiate(hidden, table, bias, 50)
    (expected, expected_tokens), wanted = differentiate(hidden, table[:50], bias[:50])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, want in zip((*tokens, *gradients), (*expected_tokens, *wanted), strict=True):
        got = got[:50] if got.shape[0] == 56 else got
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert not gradients[1][50:].any() and not gradients[2][50:].any()


def test_no_array_of_the_whole_logits_exists_in_either_pass():
    batch, length, embed, vocab = 4, 64, 8, 512
    hidden, table = jnp.ones((batch, length, embed)), jnp.ones((vocab, embed))
    tokens = jnp.zeros((batch, length), jnp.int32)

    def loss(hidden, table):
        return cross_entropy(
            hidden, table, tokens, jnp.ones((batch, length)), rules=Rules(),
            positions_at_a_time=batch * 8,
        )[0]  # fmt: skip

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, table).compile()
    whole = 4 * batch * length * vocab
    analysis = compiled.memory_analysis()
    assert analysis is not None and analysis.temp_size_in_bytes < whole / 2
