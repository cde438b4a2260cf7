"""Kaplan and Chinchilla reconciled: what counting without embeddings does to the exponent.

Pearce and Song (2406.12907): total parameters are N + gamma N^(1/3), N those without embeddings.
With Chinchilla's law of the totals, the best N of small models grows with C (both without
embeddings) by an exponent near Kaplan's 0.73, and of large ones by Chinchilla's 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.table import FLOPS_PER_PARAMETER_AND_TOKEN

GAMMA = 47491.0
"""Of Chinchilla's models: 32,000 words and a ratio of width to depth of 39.2."""


def total_parameters(without: ArrayLike, gamma: float = GAMMA) -> np.ndarray:
    """Parameters with embeddings of models with so many without."""
    without = np.asarray(without, float)
    return without + gamma * np.cbrt(without)


def flops_of_best(law: Mapping[str, float], without: ArrayLike, gamma: float = GAMMA) -> np.ndarray:
    """The compute 6ND (N without embeddings) at which models of these sizes are the best.

    At the best, L(N + gamma N^(1/3), C / (6N)) does not change with N.

    Args:
      law: A, B, alpha and beta of Chinchilla's law of total parameters.
      without: [sizes] parameters without embeddings.
      gamma: of `total_parameters`.
    """
    without = np.asarray(without, float)
    grows = 1 + gamma / 3 * without ** (-2 / 3)
    total = total_parameters(without, gamma)
    of_size = law["alpha"] * law["A"] * total ** (-law["alpha"] - 1) * grows * without
    tokens = (of_size / (law["beta"] * law["B"])) ** (-1 / law["beta"])
    return FLOPS_PER_PARAMETER_AND_TOKEN * without * tokens


def local_exponent(law: Mapping[str, float], without: ArrayLike, gamma: float = GAMMA) -> float:
    """The slope of ln N* by ln C, both without embeddings, over a range of sizes."""
    logs = np.log(flops_of_best(law, without, gamma))
    return float(np.polyfit(logs, np.log(np.asarray(without, float)), 1)[0])
