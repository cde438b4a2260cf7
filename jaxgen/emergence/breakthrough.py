"""BIG-bench sorted its tasks by two scores, breakthroughness and linearity.

With y_1 .. y_n the scores by rising scale, dy their successive differences and
I = sign(argmax y - argmin y) (max y - min y):

    breakthroughness = I / sqrt(median dy^2)
    linearity        = I / (n sqrt(mean dy^2)), with n the number of differences: 1 for a line

(Srivastava et al., 2022, appendix B; Schaeffer et al., 2023, call the first the emergence score.)
Both describe the shape of one curve. They are reported and take no part in the verdict:
breakthroughness is high for any curve that is flat nearly everywhere, and higher for an artefact of
the metric than for a real transition whose seeds differ.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.runs import Runs

CAP = 100.0


def breakthroughness(scores: np.ndarray) -> float:
    """Returns the breakthroughness of scores [scales] by rising scale, from -100 to 100."""
    improvement, steps = _improvement(scores)
    if improvement == 0:
        return 0.0
    root = float(np.sqrt(np.median(steps**2)))
    return float(np.clip(improvement / root, -CAP, CAP)) if root > 0 else CAP * np.sign(improvement)


def linearity(scores: np.ndarray) -> float:
    """Returns the linearity of scores [scales] by rising scale: 1 for a line, 0 if flat."""
    improvement, steps = _improvement(scores)
    if improvement == 0:
        return 0.0
    return float(improvement / (len(steps) * np.sqrt(np.mean(steps**2))))


def _improvement(scores: np.ndarray) -> tuple[float, np.ndarray]:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise EmergenceError("scores must be two or more finite numbers, by rising scale.")
    sign = np.sign(int(scores.argmax()) - int(scores.argmin()))
    return float(sign * np.ptp(scores)), np.diff(scores)


@dataclasses.dataclass(frozen=True)
class CurveShape:
    """The two scores of one curve.

    Attributes:
      metric: the metric of the curve.
      seed: the seed of the curve, or None for the mean over seeds.
      breakthroughness: from -100 to 100.
      linearity: at most 1.
    """

    metric: str
    seed: str | None
    breakthroughness: float
    linearity: float


def curve_shapes(runs: Runs, metric: str) -> list[CurveShape]:
    """Scores the mean over seeds first, then every seed that has all scales."""
    curves: list[tuple[str | None, np.ndarray]] = [(None, runs.means(metric))]
    for seed in np.unique(runs.seed).tolist():
        mine = runs.seed == seed
        if np.array_equal(np.sort(runs.rung[mine]), np.arange(len(runs.scale))):
            curves.append((seed, runs.metric(metric)[mine][np.argsort(runs.rung[mine])]))
    return [
        CurveShape(metric, seed, breakthroughness(scores), linearity(scores))
        for seed, scores in curves
        if len(scores) > 1
    ]
