"""A discrete metric held against a continuous one of the same outputs, model by model.

For tables of unlike models, where scale is a poor guide and there are no seeds: does the
continuous metric say what the discrete one will be, and better than scale does? Wu and Lo (2024)
map Brier score to accuracy by a straight line; so does this, beside a straight line and the laws
of `trends` in log scale.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import spearmanr

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.runs import Runs
from jaxgen.emergence.trends import fit_trend


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What each says of the discrete metric; errors are root mean squares in its unit.

    Attributes:
      models: how many.
      rank_correlation: Spearman's, of the two metrics.
      error_from_metric: leaving each model out, from the continuous metric by a straight line.
      error_from_scale: likewise from log scale.
      spread: of the discrete metric, its standard deviation.
      discrete_gain: mean absolute held-out error of the best law without a break over that of the
        best with one, of the discrete metric in log scale; above 1 a break predicts better.
      continuous_gain: the same of the continuous metric.
    """

    models: int
    rank_correlation: float
    error_from_metric: float
    error_from_scale: float
    spread: float
    discrete_gain: float
    continuous_gain: float


def compare_metrics(runs: Runs, discrete: str, continuous: str) -> Comparison:
    """Compares two metrics of runs.

    Raises:
      EmergenceError: fewer than 6 scales, or a metric that is the same for all.
    """
    right, other = runs.metric(discrete), runs.metric(continuous)
    log_scale = runs.log_scale[runs.rung]
    for name, column in ((discrete, right), (continuous, other), ("scale", log_scale)):
        if np.ptp(column) == 0:
            raise EmergenceError(f"{name} of task {runs.task!r} is the same for all models.")
    trends = [fit_trend(runs, name) for name in (discrete, continuous)]
    gains = [one.heldout[one.gradual] / one.heldout[one.sudden] for one in trends]
    return Comparison(
        models=len(right),
        rank_correlation=float(np.asarray(spearmanr(right, other))[0]),
        error_from_metric=left_out_error(other, right),
        error_from_scale=left_out_error(log_scale, right),
        spread=float(right.std()),
        discrete_gain=gains[0],
        continuous_gain=gains[1],
    )


def left_out_error(x: np.ndarray, y: np.ndarray) -> float:
    """[points], [points] -> root mean square error of a line, each point left out in its turn."""
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    hat = design @ np.linalg.solve(design.T @ design, design.T)
    # A least-squares fit without a point misses it by its residual over one less its leverage.
    return float(np.sqrt(np.mean(((y - hat @ y) / (1 - np.diag(hat))) ** 2)))
