"""Random numbers that are equal on every machine and in every version of numpy.

They are made of the raw output of Philox (Salmon et al., 2011), which numpy keeps stable; the
methods of its `Generator` are not.
"""

from __future__ import annotations

import numpy as np

from jaxgen.data.hashing import hash64


class Draws:
    """A sequence of random numbers that depends on the seed's texts alone."""

    def __init__(self, *seed: object):
        self._bits = np.random.Philox(key=hash64(*seed))

    def uniform(self, count: int) -> np.ndarray:
        """Draws [count] float64 in [0, 1)."""
        return (self._bits.random_raw(count) >> np.uint64(11)) * 2.0**-53

    def integers(self, count: int, stop: int) -> np.ndarray:
        """Draws [count] int64 in [0, stop); the bias is below stop / 2^53."""
        return (self.uniform(count) * stop).astype(np.int64)

    def permutation(self, length: int) -> np.ndarray:
        """Draws a permutation of range(length)."""
        return np.argsort(self._bits.random_raw(length), kind="stable")

    def chosen(self, length: int, count: int) -> np.ndarray:
        """Draws [length] bool, `count` of them true, every choice equally likely."""
        is_chosen = np.zeros(length, bool)
        is_chosen[self.permutation(length)[:count]] = True
        return is_chosen
