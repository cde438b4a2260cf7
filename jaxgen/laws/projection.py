"""Chinchilla's law by variable projection: another way to the same optimum, to check it by.

With alpha, beta and E given, A and B are a linear least-squares problem, so only three parameters
are searched (Golub and Pereyra, 1973). Huber's function of the log loss is met by weighting anew:
each round fits the losses, linearised about the last round's curve, with weights delta over the
error where it is beyond delta. Where the rounds come to rest the objective's gradient is zero.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.laws.chinchilla import CHINCHILLA
from jaxgen.laws.objective import Objective
from jaxgen.laws.table import Table, check_enough

OUTER_STARTS = (0.1, 0.3, 0.6)
ROUNDS = 300
HUBER = Objective()
"""Of the log loss, with delta 1e-3."""


@dataclasses.dataclass(frozen=True)
class Projected:
    """Where variable projection ends.

    Attributes:
      parameters: A, B, E, alpha, beta.
      value: the objective of the log loss, comparable with `Fit.value`.
      rounds: of weighting.
    """

    parameters: dict[str, float]
    value: float
    rounds: int


def project_chinchilla(
    table: Table,
    objective: Objective = HUBER,
    tolerance: float = 1e-12,
) -> Projected:
    """Fits L = E + A / N^alpha + B / D^beta by variable projection.

    Args:
      table: of runs.
      objective: of the log loss.
      tolerance: rounds end when the objective changes by less than this part.
    """
    from scipy.optimize import least_squares

    check_enough(CHINCHILLA.name, len(table), 5)
    # About their middle, so that A and B are of the size of the loss.
    sizes = np.log(table.parameters) - np.log(table.parameters).mean()
    tokens = np.log(table.tokens) - np.log(table.tokens).mean()

    def inner(outer: np.ndarray, goal: np.ndarray, scale: np.ndarray) -> np.ndarray:
        design = np.exp(np.column_stack([-outer[0] * sizes, -outer[1] * tokens]))
        linear = np.linalg.lstsq(design * scale[:, None], (goal - outer[2]) * scale, rcond=None)[0]
        return design @ linear + outer[2]

    def search(outer: np.ndarray, goal: np.ndarray, scale: np.ndarray):
        return least_squares(
            lambda at: (inner(at, goal, scale) - goal) * scale,
            outer,
            x_scale=[0.1, 0.1, 0.1],
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )

    loss = table.loss
    least = loss.min()
    firsts = [
        search(np.array([alpha, beta, share * least]), loss, 1 / loss)
        for alpha in OUTER_STARTS
        for beta in OUTER_STARTS
        for share in (0.3, 0.8)
    ]
    outer = min(firsts, key=lambda found: found.cost).x
    curve = inner(outer, loss, 1 / loss)
    value, rounds = np.inf, 0
    while rounds < ROUNDS:
        rounds += 1
        errors = np.log(loss / curve)
        before, value = value, float(np.sum(objective.values(errors)))
        if abs(before - value) <= tolerance * value:
            break
        weights = np.minimum(1, objective.delta / np.maximum(np.abs(errors), 1e-300))
        goal, scale = curve * (1 + errors), np.sqrt(weights) / curve
        outer = search(outer, goal, scale).x
        curve = inner(outer, goal, scale)
    logs = np.log(table.parameters).mean(), np.log(table.tokens).mean()
    amounts = _coefficients(curve, outer, sizes, tokens)
    parameters = {
        "A": float(amounts[0] * np.exp(outer[0] * logs[0])),
        "B": float(amounts[1] * np.exp(outer[1] * logs[1])),
        "E": float(outer[2]),
        "alpha": float(outer[0]),
        "beta": float(outer[1]),
    }
    return Projected(parameters, value, rounds)


def _coefficients(curve, outer, sizes, tokens) -> np.ndarray:
    design = np.exp(np.column_stack([-outer[0] * sizes, -outer[1] * tokens]))
    return np.linalg.lstsq(design, curve - outer[2], rcond=None)[0]
