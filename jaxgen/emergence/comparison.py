"""Two metrics of the same outputs are compared over models that have no seeds.

In a table of public models scale is a poor guide. The question is whether the continuous metric
predicts the discrete one, and better than scale does. As in Wu and Lo (2024), who map Brier score
to accuracy, the prediction is a straight line; the rival is a straight line in log scale.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import spearmanr

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.runs import Runs

FEWEST_MODELS = 4


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison shows how well a continuous metric and scale predict a discrete metric.

    Attributes:
      models: number of models.
      rank_correlation: Spearman's correlation of the two metrics.
      error_from_metric: root mean square error from the continuous metric by a straight line, each
        model left out in turn.
      error_from_scale: the same from log scale.
      spread: standard deviation of the discrete metric.
    """

    models: int
    rank_correlation: float
    error_from_metric: float
    error_from_scale: float
    spread: float


def compare_metrics(runs: Runs, discrete: str, continuous: str) -> Comparison:
    """Compares two metrics of runs.

    Raises:
      EmergenceError: there are fewer than 4 models, or a metric or the scale is the same for all
        of them or for all but one, so that a line without that one has no slope.
    """
    if len(runs.rung) < FEWEST_MODELS:
        raise EmergenceError(
            f"task {runs.task!r} has {len(runs.rung)} models: {FEWEST_MODELS} or more are needed "
            "for a line without each of them."
        )
    target, other = runs.metric(discrete), runs.metric(continuous)
    log_scale = runs.log_scale[runs.rung]
    for name, column in ((discrete, target), (continuous, other), ("scale", log_scale)):
        if np.ptp(column) == 0:
            raise EmergenceError(f"{name} of task {runs.task!r} is the same for all models.")
        if np.unique(column, return_counts=True)[1].max() == len(column) - 1:
            raise EmergenceError(
                f"{name} of task {runs.task!r} is the same for all models but one."
            )
    return Comparison(
        models=len(target),
        rank_correlation=float(np.asarray(spearmanr(target, other))[0]),
        error_from_metric=left_out_error(other, target),
        error_from_scale=left_out_error(log_scale, target),
        spread=float(target.std()),
    )


def left_out_error(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the root mean square error of a line, each point [points] left out in turn."""
    design = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    hat = design @ np.linalg.solve(design.T @ design, design.T)
    # A least-squares fit without a point misses it by its residual over one less its leverage.
    return float(np.sqrt(np.mean(((y - hat @ y) / (1 - np.diag(hat))) ** 2)))
