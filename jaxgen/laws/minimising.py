"""Many small minimisations run at once, by BFGS.

Laws have three to ten parameters, so the whole inverse Hessian is kept. Starts, bootstraps and
draws are rows of one array; rows that are done drop out. Step lengths meet the weak Wolfe
conditions by bisection, which also works where the slope has kinks, as the Huber loss's has (Lewis
and Overton, Nonsmooth optimization via quasi-Newton methods, 2013).
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.huber_loss import Problem

SUFFICIENT, CURVATURE = 1e-4, 0.9
"""Constants of the Wolfe conditions."""
MAX_TRIALS = 30
"""Trial lengths of one step."""
STALLED = 3
"""Steps without progress after which a row is done."""


def minimise(
    problem: Problem, starts: np.ndarray, tolerance: float = 1e-13, iterations: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises each row of starts.

    Args:
      problem: its replicates are the rows.
      starts: [rows, parameters].
      tolerance: a row is done after three consecutive steps that lower its value by less than
        this fraction.
      iterations: the most steps.

    Returns:
      Where each row ends [rows, parameters], and the values there [rows].
    """
    function = problem.value_and_gradient
    points = np.array(starts, float)
    rows = np.arange(len(points))
    values, gradients, matrices = problem.normal_equations(points, rows)
    # The first step is one of reweighted least squares, which needs no guess of its length.
    inverse = _inverses(matrices)
    metric = inverse.copy()
    stalled = np.zeros(len(points), int)
    is_first = np.ones(len(points), bool)
    active = rows[np.isfinite(values) & np.any(gradients != 0, axis=1)]
    for _ in range(iterations):
        if not len(active):
            break
        direction = -np.einsum("rpq,rq->rp", inverse[active], gradients[active])
        slope = np.sum(direction * gradients[active], axis=1)
        is_wrong = slope >= 0
        if np.any(is_wrong):
            again = active[is_wrong]
            inverse[again] = metric[again]
            direction[is_wrong] = -np.einsum("rpq,rq->rp", inverse[again], gradients[again])
            slope[is_wrong] = np.sum(direction[is_wrong] * gradients[again], axis=1)
        new, value, gradient = _step(function, points, values, gradients, active, direction, slope)
        gained = values[active] - value
        moved, turned = new - points[active], gradient - gradients[active]
        points[active], values[active], gradients[active] = new, value, gradient
        _update(inverse, active, moved, turned, is_first)
        is_small = gained <= tolerance * value
        stalled[active] = np.where(is_small, stalled[active] + 1, 0)
        active = active[(stalled[active] < STALLED) & (value > 0)]
    return points, values


def _step(function, points, values, gradients, active, direction, slope):
    """Takes a step along each direction that meets the weak Wolfe conditions, or none."""
    new, value, gradient = points[active].copy(), values[active].copy(), gradients[active].copy()
    length = np.ones(len(active))
    low, high = np.zeros(len(active)), np.full(len(active), np.inf)
    open_ = np.arange(len(active))
    for _ in range(MAX_TRIALS):
        rows = active[open_]
        trial = points[rows] + length[open_, None] * direction[open_]
        trial_value, trial_gradient = function(trial, rows)
        with np.errstate(over="ignore"):
            along = np.sum(trial_gradient * direction[open_], axis=1)
        is_high = ~(trial_value <= values[rows] + SUFFICIENT * length[open_] * slope[open_])
        is_low = ~is_high & (along < CURVATURE * slope[open_])
        # The best so far is kept, should the trials run out.
        better = ~is_high & (trial_value <= value[open_])
        place = open_[better]
        new[place], value[place], gradient[place] = (
            trial[better],
            trial_value[better],
            trial_gradient[better],
        )
        high[open_[is_high]] = length[open_[is_high]]
        low[open_[is_low]] = length[open_[is_low]]
        open_ = open_[is_high | is_low]
        if not len(open_):
            break
        with np.errstate(invalid="ignore"):
            length[open_] = np.where(
                np.isinf(high[open_]), 2 * low[open_], (low[open_] + high[open_]) / 2
            )
    return new, value, gradient


def _update(inverse, active, moved, turned, is_first):
    """Updates the inverse Hessians by BFGS where the curvature along the step is positive."""
    with np.errstate(over="ignore", invalid="ignore"):  # A start that runs away is left to stop.
        curvature = np.sum(moved * turned, axis=1)
        size = np.linalg.norm(moved, axis=1) * np.linalg.norm(turned, axis=1)
    # Below the second bound its square would underflow, and the update be no number.
    is_good = curvature > np.maximum(1e-12 * size, 1e-150)
    rows, moved, turned = active[is_good], moved[is_good], turned[is_good]
    curvature = curvature[is_good]
    old = inverse[rows]
    along = np.einsum("rpq,rq->rp", old, turned)
    quadratic = np.sum(turned * along, axis=1)
    first = is_first[rows]
    # A quadratic form that has underflowed leaves its scale as it is.
    scale = np.divide(
        curvature, quadratic, where=first & (quadratic > 0), out=np.ones_like(curvature)
    )
    old, along, quadratic = old * scale[:, None, None], along * scale[:, None], quadratic * scale
    is_first[rows] = False
    cross = moved[:, :, None] * along[:, None, :]
    outer = moved[:, :, None] * moved[:, None, :]
    inverse[rows] = (
        old
        - (cross + cross.transpose(0, 2, 1)) / curvature[:, None, None]
        + outer * ((1 + quadratic / curvature) / curvature)[:, None, None]
    )


def _inverses(matrices: np.ndarray) -> np.ndarray:
    """Returns inverses of matrices that may be singular, computed at a unit diagonal."""
    count = matrices.shape[1]
    size = np.trace(matrices, axis1=1, axis2=2)[:, None]
    scale = np.sqrt(np.maximum(np.diagonal(matrices, axis1=1, axis2=2), 1e-12 * size + 1e-300))
    both = scale[:, :, None] * scale[:, None, :]
    return np.linalg.inv(matrices / both + 1e-9 * np.eye(count)) / both
