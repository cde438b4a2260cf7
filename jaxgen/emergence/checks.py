"""A table of runs is checked before anything is computed from it, with one message for each fault.

What slips through here comes out as a verdict: a loss with the wrong sign as a rising ability, or
one run under six names as six seeds that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.table import BOUNDS

PER_TOKEN = "log_probability_per_token"
LIMITS = {**BOUNDS, PER_TOKEN: BOUNDS["log_probability"], "independent_tokens": (0.0, 1.0)}
SLACK = 1e-6
"""What rounding may add to a share of 1."""
FEWEST_COPIED_RUNGS = 3
"""Rungs at which runs must agree in every metric to be copies; a rounded table may agree at two."""

COPIED = 1e-7
"""The part by which values of a copy may differ: means of the same rows, added in another order."""


def numbers(values: Any, name: str, task: str) -> np.ndarray:
    """Returns values [n] as finite float64."""
    try:
        column = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise EmergenceError(f"{name} of task {task!r} must be a list of numbers.") from None
    if column.ndim != 1:
        raise EmergenceError(
            f"{name} of task {task!r} has the shape {column.shape}: give one number each, [n]."
        )
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        raise EmergenceError(
            f"{name} of task {task!r} is {column[bad[0]]} at place {bad[0]}: every value must be "
            "finite; leave out the runs that have none."
        )
    return column


def whole_numbers(values: Any, name: str, task: str) -> np.ndarray:
    """Returns values [n] as int64."""
    column = numbers(values, name, task)
    if (column != np.round(column)).any():
        raise EmergenceError(f"{name} of task {task!r} must be whole numbers, an index of a scale.")
    return column.astype(np.int64)


def check_scale(scale: np.ndarray, axis: str, task: str) -> None:
    """Raises unless scales [rungs] are positive and in order; those of a loss fall."""
    if not len(scale):
        raise EmergenceError(f"scale of task {task!r} is empty: give one size for each rung.")
    if scale.min() <= 0:
        raise EmergenceError(
            f"scale={scale.min():g} of task {task!r}: sizes are compared by their logarithms and "
            f"must be above 0; is {axis} missing for some runs?"
        )
    wrong = np.flatnonzero(np.diff(scale) * (-1 if axis == "loss" else 1) < 0)
    if len(wrong):
        before, after = scale[wrong[0]], scale[wrong[0] + 1]
        raise EmergenceError(
            f"scale of task {task!r} goes from {before:g} to {after:g} on the axis {axis!r}: sort "
            f"it from the smallest model to the largest ({axis} "
            f"{'falls' if axis == 'loss' else 'rises'}) and number `rung` anew."
        )


def check_chance(chance: float, task: str) -> None:
    """Raises unless chance is a share below 1."""
    if not isinstance(chance, Real) or not 0 <= chance < 1:
        raise EmergenceError(
            f"chance={chance} of task {task!r} must be at least 0 and below 1: the share of "
            "answers that guessing gets right."
        )


def check_lengths(columns: Mapping[str, np.ndarray], task: str) -> None:
    """Raises unless all columns have one value a run."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise EmergenceError(
            f"task {task!r} has columns of unequal length: "
            f"{', '.join(f'{name} {length}' for name, length in lengths.items())}. Give each one "
            "value a run."
        )


def check_metric(name: str, column: np.ndarray, task: str) -> None:
    """Raises if a known metric [runs] is out of its bounds."""
    low, high = LIMITS.get(name, (-np.inf, np.inf))
    bad = np.flatnonzero((column < low - SLACK) | (column > high + SLACK))
    if not len(bad):
        return
    value = column[bad[0]]
    if high == 1 and value > 1:
        fix = "it is a share, from 0 to 1; divide percent by 100"
    elif name in (PER_TOKEN, "log_probability"):
        fix = "a log probability is at most 0 nats; of a loss, give its negative"
    else:
        fix = f"it must be from {low:g} to {high:g}"
    raise EmergenceError(f"{name}={value:g} of task {task!r} at place {bad[0]}: {fix}.")


def check_runs_apart(
    scale: np.ndarray,
    rung: np.ndarray,
    seed: np.ndarray,
    metrics: Mapping[str, np.ndarray],
    task: str,
) -> None:
    """Raises if two runs have one name, or the seeds of a table are copies of each other."""
    names, which = np.unique(seed, return_inverse=True)
    cells = rung * len(names) + which
    values, count = np.unique(cells, return_counts=True)
    if count.max(initial=1) > 1:
        twice = values[count.argmax()]
        raise EmergenceError(
            f"task {task!r} has {count.max()} runs of seed {str(names[twice % len(names)])!r} at "
            f"scale {scale[twice // len(names)]:g}: name the seeds apart, or give one run each."
        )
    if PER_TOKEN not in metrics:
        return
    # At a log probability of exactly 0 all is known, and seeds have nothing to differ in.
    told = np.flatnonzero(metrics[PER_TOKEN] < 0)
    grid = np.full((len(scale), len(names), len(metrics)), np.nan)
    grid[rung[told], which[told]] = np.stack(list(metrics.values()), axis=1)[told]
    is_there = ~np.isnan(grid[..., 0])
    is_repeated = np.zeros(is_there.shape, bool)
    for first in range(len(names)):
        both = is_there[:, first + 1 :] & is_there[:, [first]]
        is_equal = np.isclose(grid[:, first + 1 :], grid[:, [first]], rtol=COPIED, atol=0).all(-1)
        is_repeated[:, first + 1 :] |= is_equal
        is_same = is_equal | ~both
        copies = np.flatnonzero(is_same.all(0) & (both.sum(0) >= FEWEST_COPIED_RUNGS))
        if len(copies):
            other = names[first + 1 + copies[0]]
            raise EmergenceError(
                f"seeds {str(names[first])!r} and {str(other)!r} of task {task!r} have the same "
                "values at every scale: copies of a run are not seeds; give each run once."
            )
    runs = is_there.sum(1)
    several = np.flatnonzero(runs > 1)
    distinct = runs - is_repeated.sum(1)
    if len(several) >= FEWEST_COPIED_RUNGS and (2 * distinct <= runs)[several].all():
        raise EmergenceError(
            f"at every scale of task {task!r} half of the seeds or more have the values of "
            "another: copies of a run are not seeds; give each run once."
        )
