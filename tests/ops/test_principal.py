"""Principal components in buckets, beside numpy's singular values, and their error's bound."""

import numpy as np
import pytest

from jaxgen.errors import DataError
from jaxgen.ops.principal import bucket_codes, fit_principal, vectors_of_codes


def drawn(count=200, width=24, seed=0):
    """Vectors of unequal deviations in some rotation, about a mean that is not 0."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(width, width)))
    scales = 2.0 ** -np.arange(width)
    return (random.normal(size=(count, width)) * scales) @ rotation + random.normal(size=width)


def test_components_and_their_variance_are_those_of_numpy_s_singular_values():
    vectors = drawn()
    principal, values = fit_principal(vectors, 8)
    centred = vectors - vectors.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(values, singular**2 / 199, rtol=1e-6, atol=1e-15)
    # A component's sign is nobody's.
    np.testing.assert_allclose(np.abs(np.sum(principal.basis * rows[:8], axis=1)), 1, rtol=1e-5)
    np.testing.assert_allclose(principal.basis @ principal.basis.T, np.eye(8), atol=1e-5)
    # What is left of the vectors is what the other components have.
    left = centred - centred @ principal.basis.T @ principal.basis
    share = 1 - np.square(left).sum() / np.square(centred).sum()
    assert share == pytest.approx(values[:8].sum() / values.sum(), rel=1e-6)


@pytest.mark.parametrize("buckets", [16, 1024])
def test_an_error_is_at_most_half_a_bucket_and_what_was_left_out(buckets):
    vectors = drawn()
    principal, _ = fit_principal(vectors, 8)
    codes = bucket_codes(principal, vectors, buckets)
    assert codes.min() == 0 and codes.max() == buckets - 1 and codes.dtype == np.int32
    errors = vectors_of_codes(principal, codes, buckets) - vectors
    inside = errors @ principal.basis.T
    half = (principal.high - principal.low) / buckets / 2
    assert (np.abs(inside) <= half * (1 + 1e-3) + 1e-6).all()
    centred = vectors - principal.mean
    left = centred - centred @ principal.basis.T @ principal.basis
    np.testing.assert_allclose(
        np.square(errors).sum(axis=1),
        np.square(inside).sum(axis=1) + np.square(left).sum(axis=1), rtol=1e-4, atol=1e-9,
    )  # fmt: skip
    # A number that is spread evenly over its bucket errs by width^2 / 12 in the mean.
    even = np.linspace(principal.low, principal.high, 100_003) @ principal.basis + principal.mean
    again = vectors_of_codes(principal, bucket_codes(principal, even, buckets), buckets) - even
    squares = np.square(again @ principal.basis.T).mean(axis=0)
    np.testing.assert_allclose(squares, (2 * half) ** 2 / 12, rtol=1e-2)


def test_what_lies_beyond_the_fit_is_in_the_last_bucket():
    vectors = drawn()
    principal, _ = fit_principal(vectors, 4)
    beyond = principal.mean + 100 * (vectors - principal.mean)
    assert set(np.unique(bucket_codes(principal, beyond, 16))) <= set(range(16))
    with pytest.raises(DataError, match="have no 30 components"):
        fit_principal(vectors, 30)
