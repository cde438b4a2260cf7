"""Batches to time steps on."""

from __future__ import annotations

import numpy as np

from jaxgen.batch import Batch


def full_rows(rows: int, length: int, vocab_size: int) -> Batch:
    """Returns rows of random tokens, each one segment without padding."""
    window = np.random.default_rng(0).integers(0, vocab_size, (rows, length + 1), dtype=np.int32)
    ones = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ones.shape)
    weights = ones.astype(np.float32)
    return Batch(window[:, :-1], window[:, 1:], weights, positions, ones, 0 * ones)
