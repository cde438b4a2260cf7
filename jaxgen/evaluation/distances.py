"""Distances between two sets of feature vectors, by which sets of pictures are compared."""

from __future__ import annotations

import numpy as np

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the Frechet distance of the Gaussians with two sets' means and covariances.

    With features of Inception this is FID (1706.08500). It is biased upwards, the more so the fewer
    vectors there are for their length, so it is read against that of two true sets of one size.

    Args:
      first: [n, features].
      second: [m, features].
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    difference = one.mean(axis=0) - other.mean(axis=0)
    spread, spread_of_other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other))
    root = _root(spread)
    # sqrt(A B) has the trace of sqrt(sqrt(A) B sqrt(A)), which is symmetric.
    shared = np.linalg.eigvalsh(root @ spread_of_other @ root)
    trace = np.trace(spread) + np.trace(spread_of_other) - 2 * np.sqrt(np.maximum(shared, 0)).sum()
    return float(difference @ difference + trace)


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the squared maximum mean discrepancy with the kernel (x.y / features + 1)^3.

    With features of Inception this is KID (1801.01401). It is unbiased: of two sets of one kind it
    is 0 on average, and below 0 as often as above.

    Args:
      first: [n, features], n > 1.
      second: [m, features], m > 1.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    size = one.shape[1]
    within, within_other, between = (
        (a @ b.T / size + 1) ** 3 for a, b in ((one, one), (other, other), (one, other))
    )
    return float(_off_diagonal_mean(within) + _off_diagonal_mean(within_other) - 2 * between.mean())


def gaussian_distance(
    first: np.ndarray, second: np.ndarray, sigma: float = CMMD_SIGMA, scale: float = CMMD_SCALE
) -> float:
    """Returns the squared maximum mean discrepancy with a Gaussian kernel, times a scale.

    With features of CLIP, which have length 1, this is CMMD (2401.09603): biased a little, and with
    no assumption on how features are distributed.

    Args:
      first: [n, features].
      second: [m, features].
      sigma: the kernel's width.
      scale: what it is multiplied by.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return float(np.exp(-np.maximum(squares, 0) / (2 * sigma**2)).mean())

    within = mean_kernel(one, one) + mean_kernel(other, other)
    return scale * (within - 2 * mean_kernel(one, other))


DISTANCES = {
    "frechet_distance": frechet_distance,
    "kernel_distance": kernel_distance,
    "gaussian_distance": gaussian_distance,
}


def _root(matrix: np.ndarray) -> np.ndarray:
    """Returns the square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _off_diagonal_mean(kernel: np.ndarray) -> float:
    size = len(kernel)
    return (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
