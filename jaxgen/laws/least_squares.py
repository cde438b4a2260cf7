"""Many small least-squares fits run at once, by the method of Levenberg and Marquardt.

Where a law nearly goes through its points, the fit loss is a narrow curved valley, along which BFGS
is slow and steps from the residuals' own slopes are not. The damping of a step is a multiple of
the diagonal of J'J (Marquardt, 1963), adapted for each fit by whether its last step led down.
"""

from __future__ import annotations

import numpy as np

from jaxgen.laws.huber_loss import Problem

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-2, 1e-14, 1e12
DOWN, UP = 0.2, 4.0
"""Factors of the damping after a step that led down and after one that did not."""
ROUNDING = 1e-28
"""Value of a point below which a fit goes through it."""
STALLED = 3
"""Steps without progress after which a fit is done."""


def minimise_squares(
    problem: Problem, starts: np.ndarray, tolerance: float = 1e-13, iterations: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises each row of starts.

    Args:
      problem: one of least squares (an infinite delta).
      starts: [rows, parameters].
      tolerance: a row is done after three consecutive steps that lower its value by less than
        this fraction.
      iterations: the most steps, counting those that lead up.

    Returns:
      Where each row ends [rows, parameters], and the values there [rows].
    """
    points = np.array(starts, float)
    rows = np.arange(len(points))
    values, gradients, matrices = problem.normal_equations(points, rows)
    damping = np.full(len(points), FIRST_DAMPING)
    stalled = np.zeros(len(points), int)
    least = ROUNDING * problem.targets.shape[-1]
    active = rows[np.isfinite(values) & (values > least)]
    for _ in range(iterations):
        if not len(active):
            break
        step = _steps(matrices[active], gradients[active], damping[active])
        trial = points[active] + step
        value = problem.values(trial, active)
        is_down = value <= values[active]
        gained = np.where(is_down, values[active] - value, 0.0)
        is_small = is_down & (gained <= tolerance * values[active])
        damping[active] *= np.where(is_down, DOWN, UP)
        is_done = is_small | (damping[active] > MOST_DAMPING)
        stalled[active] = np.where(is_done, stalled[active] + 1, stalled[active] * ~is_down)
        np.clip(damping, LEAST_DAMPING, None, out=damping)
        moved = active[is_down]
        if len(moved):
            points[moved] = trial[is_down]
            values[moved], gradients[moved], matrices[moved] = problem.normal_equations(
                points[moved], moved
            )
        is_over = (stalled[active] >= STALLED) | (values[active] <= least)
        active = active[~is_over & (damping[active] <= MOST_DAMPING)]
    return points, values


def _steps(matrices: np.ndarray, gradients: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Returns the damped steps [rows, parameters], solved for where J'J has a unit diagonal."""
    size = np.trace(matrices, axis1=1, axis2=2)[:, None]
    diagonal = np.maximum(np.diagonal(matrices, axis1=1, axis2=2), 1e-30 * size + 1e-300)
    scale = np.sqrt(diagonal)
    scaled = matrices / (scale[:, :, None] * scale[:, None, :])
    scaled = scaled + damping[:, None, None] * np.eye(matrices.shape[1])
    # The smallest damping is below rounding: a singular J'J is then solved as well as can be.
    scaled += 1e-15 * np.eye(matrices.shape[1])
    return -np.linalg.solve(scaled, (gradients / scale)[:, :, None])[:, :, 0] / scale
