"""Finite scalar quantisation against the paper's numbers and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.errors import ConfigError
from jaxgen.ops.finite_scalar import codes_of, num_codes, quantise, vectors_of

LEVELS = (8, 5, 5, 5)


def test_known_codes_of_eight_and_three_times_five_levels():
    """2309.15505, 4.1: 1,000 codes for a table of about 2^10; 0 is a level of both kinds."""
    assert num_codes(LEVELS) == 1000
    found = quantise(jnp.array([[0.0, 0, 0, 0], [-99, -99, -99, -99], [99, 99, 99, 99]]), LEVELS)
    np.testing.assert_allclose(found, [[0] * 4, [-1] * 4, [0.75, 1, 1, 1]])
    # Digits (4, 2, 2, 2), (0, 0, 0, 0) and (7, 4, 4, 4) at places 1, 8, 40, 200.
    assert codes_of(found, LEVELS).tolist() == [4 + 16 + 80 + 400, 0, 7 + 32 + 160 + 800]


@pytest.mark.parametrize("levels", [LEVELS, (2,), (3, 3), (4, 7, 2), (8, 8, 8, 5, 5, 5)])
def test_each_code_has_one_vector_and_each_vector_its_code(levels):
    codes = jnp.arange(num_codes(levels))
    vectors = vectors_of(codes, levels)
    assert len(np.unique(np.asarray(vectors), axis=0)) == len(codes)
    np.testing.assert_array_equal(codes_of(vectors, levels), codes)
    # What is at a level stays there: the bound's inverse leads to the same code.
    count = np.asarray(levels)
    reach, offset = (count - 1) * (1 + 1e-3) / 2, np.where(count % 2 == 0, 0.5, 0)
    before = np.arctanh((np.asarray(vectors) * (count // 2) + offset) / reach)
    before -= np.arctanh(offset / reach)
    np.testing.assert_array_equal(codes_of(quantise(jnp.array(before), levels), levels), codes)


def test_levels_are_evenly_apart_and_all_are_reached():
    for count in (2, 5, 8):
        line = np.unique(np.asarray(quantise(jnp.linspace(-9, 9, 20_001)[:, None], (count,))))
        assert len(line) == count
        np.testing.assert_allclose(np.diff(line), 1 / (count // 2), rtol=1e-5)


def test_the_gradient_is_that_of_the_bound():
    """Straight through the rounding: of tanh(x) * 2 * 1.001 / 2 for five levels."""
    x = jnp.array([[0.3], [-1.2]])
    gradient = jax.grad(lambda x: jnp.sum(quantise(x, (5,))))(x)
    np.testing.assert_allclose(gradient, 1.001 * (1 - np.tanh(x) ** 2), rtol=1e-5)


def test_a_dimension_of_one_level_is_refused():
    with pytest.raises(ConfigError, match=r"levels=\(8, 1\): each dimension needs 2 levels"):
        num_codes((8, 1))
