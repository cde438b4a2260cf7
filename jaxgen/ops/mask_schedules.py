"""How many codes of a picture are masked, in training and from step to step of its decoding."""

from __future__ import annotations

import math
from typing import Literal

MaskSchedule = Literal["cosine", "linear"]


def masked_share(progress: float, schedule: MaskSchedule) -> float:
    """Returns the share that is masked: 1 at progress 0, 0 at 1 (MaskGIT, 2202.04200, 3.3)."""
    return math.cos(math.pi / 2 * progress) if schedule == "cosine" else 1 - progress


def masks_left(size: int, steps: int, schedule: MaskSchedule) -> list[int]:
    """Returns how many of `size` codes are still masked after each step, the last 0.

    That is the schedule's share of them, rounded down; but every step reveals one at least, so
    that no more than `size` steps are returned.
    """
    steps = min(steps, size)
    left, before = [], size
    for step in range(1, steps + 1):
        share = masked_share(step / steps, schedule)
        before = max(steps - step, min(before - 1, math.floor(size * share + 1e-9)))
        left.append(before)
    return left
