"""Hashes that are equal on every machine, in every process and Python version."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np


def hash64(*parts: object) -> int:
    """Returns a 64-bit hash of the parts' texts."""
    digest = hashlib.blake2b(
        "\0".join(str(part) for part in parts).encode("utf-8", "surrogatepass"), digest_size=8
    )
    return int.from_bytes(digest.digest(), "little")


def record_text(record: Any) -> str:
    """Returns a record as JSON that is equal for equal records, arrays by shape, dtype and hash."""
    return json.dumps(record, sort_keys=True, default=_text)


def _text(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    content = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
    return f"{value.dtype}{list(value.shape)}{content}"


def is_heldout(key: str, fraction: float) -> bool:
    """Returns whether a file or record of this key belongs to the held-out split."""
    return hash64("split", key) < fraction * 2**64


def is_of_share(key: str, share: float) -> bool:
    """Returns whether a record of this key is in a share of its split; shares are nested."""
    return hash64("share", key) < share * 2**64


def mix64(x: np.ndarray) -> np.ndarray:
    """Maps uint64 to well-mixed uint64 by the finaliser of splitmix64 (Steele et al., 2014)."""
    x = np.asarray(x, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permutation(length: int, *seed: object) -> np.ndarray:
    """Returns a permutation of range(length) that depends on the seed's texts alone.

    It sorts the raw output of Philox (Salmon et al., 2011), which numpy keeps stable over versions;
    its `Generator.permutation` is not.
    """
    keys = np.random.Philox(key=hash64(*seed)).random_raw(length)
    return np.argsort(keys, kind="stable")
