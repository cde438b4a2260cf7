"""Lines of ln N* over ln C, and how much the minima of budgets scatter about them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.fitting import Fitting, fit_law
from jaxgen.laws.frontier import BestLoss
from jaxgen.laws.huber_loss import LOG_LEAST_SQUARES
from jaxgen.laws.power_terms import Term, power_terms

SIGNIFICANT = 0.95
"""Quantile of the scatter of minima about their line beyond which they scatter too much."""
IMMATERIAL = 1e-6
"""Standard error of ln N* that is mere rounding."""


def weighted_line(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the intercept and slope [...] of y [..., points] over x; NaN of y are left out."""
    weights = np.where(np.isnan(y), 0.0, weights)
    y = np.nan_to_num(y)
    total = weights.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle_x, middle_y = (weights * x).sum(-1) / total, (weights * y).sum(-1) / total
        away = x - middle_x[..., None]
        slope = (weights * away * y).sum(-1) / (weights * away**2).sum(-1)
    return middle_y - slope * middle_x, slope


def excess_variance(squares: Callable[[float], float], freedom: int, extent: float) -> float:
    """Returns the variance beyond noise with which minima scatter as they do; 0 if by chance.

    Args:
      squares: excess variance -> the sum of squared standardised distances, which falls with it.
      freedom: its degrees of freedom.
      extent: range of the minima, which bounds the standard deviation.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2

    if squares(0.0) <= chi2.ppf(SIGNIFICANT, freedom):
        return 0.0
    high = max(extent, IMMATERIAL) ** 2
    while squares(high) > freedom:
        high *= 4
    return float(brentq(lambda excess: squares(excess) - freedom, 0.0, high))  # pyright: ignore


def fit_best_loss(flops: np.ndarray, loss: np.ndarray) -> BestLoss | None:
    """Fits L*(C) to the best losses of budgets, with a floor if there are four or more."""
    terms = [Term("K", {"flops": "gamma"}), *([Term("E")] if len(loss) > 3 else [])]
    fitting = Fitting(LOG_LEAST_SQUARES, bootstraps=0)
    try:
        own = fit_law(power_terms("best loss", terms), {"flops": flops}, loss, fitting).parameters
    except LawError:
        return None
    return BestLoss(own.get("E", 0.0), own["K"], own["gamma"])
