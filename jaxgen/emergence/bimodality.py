"""Whether the seeds of a scale are of two kinds, scale by scale.

Two tests see different things: the dip asks for two modes whatever their shape and needs about as
many seeds of each kind; the mixture asks for two groups and also sees a few seeds apart from many.
A scale's probability is twice the smaller of theirs, corrected over the scales (Holm, 1979).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.dip import dip_probability, dip_statistic
from jaxgen.emergence.mixtures import Mixture, fit_mixture, logit
from jaxgen.emergence.runs import Runs


@dataclasses.dataclass(frozen=True)
class Modes:
    """The seeds of one scale.

    Attributes:
      scale: where.
      seeds: how many.
      spread: the largest value less the smallest.
      dip: Hartigan's statistic.
      dip_probability: of such a dip or a larger one from one mode.
      mixture: two components against one.
      probability: of what both tests show if there is one kind, corrected over the scales.
    """

    scale: float
    seeds: int
    spread: float
    dip: float
    dip_probability: float
    mixture: Mixture
    probability: float


def seed_modes(runs: Runs, metric: str, on_logit: bool = False) -> list[Modes]:
    """One entry a scale, smallest first.

    Args:
      runs: of a task.
      metric: whose distribution over seeds.
      on_logit: take a share between 0 and 1 as log odds.
    """
    values = [runs.of_rung(metric, rung) for rung in range(len(runs.scale))]
    if on_logit:
        instances = [runs.instances[runs.rung == rung] for rung in range(len(runs.scale))]
        values = [
            logit(of_rung, count.mean()) for of_rung, count in zip(values, instances, strict=True)
        ]
    dips = [dip_probability(of_rung) for of_rung in values]
    mixtures = [fit_mixture(of_rung) for of_rung in values]
    both = [
        min(1.0, 2 * min(dip, mixture.probability))
        for dip, mixture in zip(dips, mixtures, strict=True)
    ]
    return [
        Modes(
            scale=float(runs.scale[rung]),
            seeds=len(of_rung),
            spread=float(np.ptp(of_rung)),
            dip=dip_statistic(of_rung),
            dip_probability=dips[rung],
            mixture=mixtures[rung],
            probability=float(corrected),
        )
        for rung, (of_rung, corrected) in enumerate(zip(values, holm(np.array(both)), strict=True))
    ]


def holm(probabilities: np.ndarray) -> np.ndarray:
    """[tests] -> [tests]: so that any below a level errs with no more than that probability."""
    order = np.argsort(probabilities)
    factors = np.arange(len(order), 0, -1)
    corrected = np.minimum(1, np.maximum.accumulate(probabilities[order] * factors))
    return corrected[np.argsort(order)]
