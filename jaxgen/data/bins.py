"""Puts items of different sizes into bins of one capacity."""

from __future__ import annotations

import bisect

import numpy as np


def fill_bins(sizes: np.ndarray, capacity: int) -> list[list[int]]:
    """Packs items into bins: each bin takes the longest item left that still fits.

    Args:
      sizes: [items], none above the capacity.
      capacity: the capacity of a bin.

    Returns:
      The items of each bin; every item is in one bin.
    """
    waiting: dict[int, list[int]] = {}
    for item in range(len(sizes) - 1, -1, -1):
        waiting.setdefault(int(sizes[item]), []).append(item)
    left = sorted(waiting)
    bins = []
    while left:
        room, content = capacity, []
        while (place := bisect.bisect_right(left, room) - 1) >= 0:
            size = left[place]
            content.append(waiting[size].pop())
            room -= size
            if not waiting[size]:
                del left[place]
        bins.append(content)
    return bins
