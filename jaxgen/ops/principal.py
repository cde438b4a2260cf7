"""Principal components of vectors, each in buckets (unCLIP's written prior, 2204.06125, 2.2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxgen.errors import DataError


class Principal(NamedTuple):
    """The components of vectors of some width, by decreasing eigenvalue.

    Attributes:
      mean: [width].
      basis: [components, width], orthonormal rows.
      low: [components], the least number of each component among the vectors that it was made of.
      high: [components], the largest.
    """

    mean: Any
    basis: Any
    low: Any
    high: Any


def fit_principal(vectors: np.ndarray, components: int) -> tuple[Principal, np.ndarray]:
    """Returns the first components of vectors, and the eigenvalues of their covariance.

    Args:
      vectors: [n, width].
      components: how many.

    Returns:
      The components, float32, and [width] float64 eigenvalues, the largest first.

    Raises:
      DataError: if there are fewer vectors or numbers than components.
    """
    count, width = vectors.shape
    if not 0 < components <= min(width, count - 1):
        raise DataError(
            f"{count} vectors of {width} numbers have no {components} components: give more "
            "vectors, or ask for fewer components."
        )
    vectors = vectors.astype(np.float64)
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    values, columns = np.linalg.eigh(centred.T @ centred / (count - 1))
    basis = columns[:, ::-1][:, :components].T
    numbers = centred @ basis.T
    found = (mean, basis, numbers.min(axis=0), numbers.max(axis=0))
    return Principal(*(np.asarray(one, np.float32) for one in found)), values[::-1].copy()


def bucket_codes(principal: Principal, vectors: Any, buckets: int) -> Any:
    """Returns the bucket of each component, integers [..., components] in [0, buckets).

    Buckets are equally wide from the least to the largest number; what lies beyond is in the last.
    """
    numbers = (vectors - principal.mean) @ principal.basis.T
    shares = (numbers - principal.low) / (principal.high - principal.low).clip(1e-12)
    return (shares * buckets).clip(0, buckets - 1).astype(np.int32)


def vectors_of_codes(principal: Principal, codes: Any, buckets: int) -> Any:
    """Returns the vectors [..., width] of the middles of buckets."""
    shares = (codes.astype(np.float32) + 0.5) / buckets
    numbers = principal.low + shares * (principal.high - principal.low)
    return principal.mean + numbers @ principal.basis
