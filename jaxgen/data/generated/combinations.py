"""Combinations of attributes that are held out, although each attribute by itself is trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.data.hashing import hash64
from jaxgen.errors import ConfigError


def held_out_combinations(
    attributes: Sequence[Sequence[str]], share: float, setting: str
) -> np.ndarray:
    """Returns which combinations are held out: bool, an axis for each attribute.

    They are chosen one after another: each time of those whose values have been held out least, so
    that held-out combinations have all values about equally often, the one of least hash. A larger
    share therefore contains a smaller one. Each value keeps a combination to train on.

    Args:
      attributes: the values of each attribute.
      share: of the combinations; at least one is held out.
      setting: what messages call it.

    Raises:
      ConfigError: if not so many can be held out.
    """
    shape = tuple(len(values) for values in attributes)
    held_out = np.zeros(shape, bool)
    names = (zip(attributes, place, strict=True) for place in np.ndindex(*shape))
    hashes = [hash64("combination", *(values[i] for values, i in name)) for name in names]
    rank = np.argsort(np.argsort(hashes)).reshape(shape)
    for _ in range(max(1, round(share * held_out.size))):
        used, is_last = np.zeros(shape), held_out.copy()
        for axis in range(len(shape)):
            others = tuple(a for a in range(len(shape)) if a != axis)
            used = used + held_out.mean(others, keepdims=True)
            is_last |= (~held_out).sum(others, keepdims=True) <= 1
        if is_last.all():
            raise ConfigError(
                f"{setting}={share} of {held_out.size} combinations leaves some of {attributes} "
                "without any to train on; use a smaller share or more values."
            )
        order = np.where(is_last, np.inf, np.round(used, 9) * held_out.size + rank / rank.size / 2)
        held_out.ravel()[order.argmin()] = True
    return held_out
