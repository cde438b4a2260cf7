"""Two tests at each scale show whether its seeds form two groups.

They see different things. The dip looks for two modes of any shape and needs groups of about the
same size; the mixture of two Gaussians also notices a few seeds apart from many. A scale's
probability is twice the smaller of the two, corrected over the scales (Holm, 1979).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.dip import dip_probability, dip_statistic
from jaxgen.emergence.runs import Runs
from jaxgen.emergence.two_components import TwoComponents, fit_two_components


@dataclasses.dataclass(frozen=True)
class Modes:
    """The seeds of one scale, tested for two groups.

    Attributes:
      scale: size on the axis.
      seeds: number of seeds.
      spread: the largest value less the smallest.
      dip: Hartigan's statistic.
      dip_probability: probability of such a dip or a larger one under one mode.
      two_components: the fit of two Gaussians.
      probability: joint probability of both tests under one group, corrected over the scales.
    """

    scale: float
    seeds: int
    spread: float
    dip: float
    dip_probability: float
    two_components: TwoComponents
    probability: float


def seed_modes(runs: Runs, metric: str) -> list[Modes]:
    """Tests the distribution of a metric over the seeds of each scale, smallest scale first."""
    values = [runs.of_rung(metric, rung) for rung in range(len(runs.scale))]
    dips = [dip_probability(of_rung) for of_rung in values]
    fits = [fit_two_components(of_rung) for of_rung in values]
    both = [min(1.0, 2 * min(dip, fit.probability)) for dip, fit in zip(dips, fits, strict=True)]
    return [
        Modes(
            scale=float(runs.scale[rung]),
            seeds=len(of_rung),
            spread=float(np.ptp(of_rung)),
            dip=dip_statistic(of_rung),
            dip_probability=dips[rung],
            two_components=fits[rung],
            probability=float(corrected),
        )
        for rung, (of_rung, corrected) in enumerate(zip(values, holm(np.array(both)), strict=True))
    ]


def holm(probabilities: np.ndarray) -> np.ndarray:
    """Corrects probabilities [tests] for the number of tests (Holm, 1979)."""
    order = np.argsort(probabilities)
    factors = np.arange(len(order), 0, -1)
    corrected = np.minimum(1, np.maximum.accumulate(probabilities[order] * factors))
    return corrected[np.argsort(order)]
