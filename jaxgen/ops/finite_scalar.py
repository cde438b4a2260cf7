"""Finite scalar quantisation: each number of a short vector is rounded to one of a few levels.

A vector of len(levels) numbers has prod(levels) codes; there is no table to learn, and nothing that
keeps codes from falling out of use (2309.15505).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.errors import ConfigError

MARGIN = 1e-3
"""How far beyond the outermost levels the bound lies, as a share of their distance."""


def num_codes(levels: Sequence[int]) -> int:
    """Returns how many codes there are.

    Raises:
      ConfigError: if a dimension has fewer than two levels.
    """
    if not levels or min(levels) < 2:
        raise ConfigError(f"levels={tuple(levels)}: each dimension needs 2 levels or more.")
    return math.prod(levels)


def quantise(x: jax.Array, levels: Sequence[int]) -> jax.Array:
    """Rounds each number to its dimension's levels; the gradient is that of the bound before it.

    Args:
      x: [..., dimensions], any numbers.
      levels: of each dimension. An even number of them lies half a level to one side, so that 0 is
        a level.

    Returns:
      [..., dimensions] in [-1, 1].
    """
    half = _half_width(levels)
    bounded = _bound(x, levels)
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    return rounded / half


def codes_of(quantised: jax.Array, levels: Sequence[int]) -> jax.Array:
    """Returns the code of each vector that `quantise` gave: [...] int32 in [0, num_codes)."""
    half = _half_width(levels)
    digits = jnp.round(quantised * half + half).astype(jnp.int32)
    return jnp.sum(digits * _places(levels), axis=-1)


def vectors_of(codes: jax.Array, levels: Sequence[int]) -> jax.Array:
    """Returns the quantised vector of each code: [..., dimensions] float32."""
    half = _half_width(levels)
    digits = (codes[..., None] // _places(levels)) % np.asarray(levels, np.int32)
    return (digits.astype(jnp.float32) - half) / half


def _bound(x: jax.Array, levels: Sequence[int]) -> jax.Array:
    """Maps any numbers smoothly between the outermost levels, 0 to 0."""
    count = np.asarray(levels)
    reach = (count - 1) * (1 + MARGIN) / 2
    offset = np.where(count % 2 == 0, 0.5, 0.0)
    shift = np.arctanh(offset / reach)
    bounded = jnp.tanh(x + shift.astype(np.float32)) * reach.astype(np.float32)
    return bounded - offset.astype(np.float32)


def _half_width(levels: Sequence[int]) -> np.ndarray:
    return (np.asarray(levels) // 2).astype(np.float32)


def _places(levels: Sequence[int]) -> np.ndarray:
    """Returns the weight of each digit, the first varying fastest."""
    num_codes(levels)
    return np.cumprod([1, *levels[:-1]]).astype(np.int32)
