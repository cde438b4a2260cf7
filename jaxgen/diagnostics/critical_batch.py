"""Steps against examples: what a larger batch buys (McCandlish et al., 1812.06162, equation 2.11).

Training to one loss takes S steps and E examples, and over batch sizes

    (S / S_min - 1)(E / E_min - 1) = 1.

The batch where both are twice their least, B_crit, is of the size of the gradient noise scale that
a run measures (`training.noise_scale`). Batches and examples are in any one unit (rows, tokens).
"""

from __future__ import annotations


def critical_batch(min_examples: float, min_steps: float) -> float:
    """B_crit = E_min / S_min.

    Args:
      min_examples: that reach the goal with the smallest batches.
      min_steps: that reach it with the largest.
    """
    return min_examples / min_steps


def steps_at(batch: float, min_steps: float, critical: float) -> float:
    """S = S_min (1 + B_crit / B), the steps that batches of a size need."""
    return min_steps * (1 + critical / batch)


def examples_at(batch: float, min_examples: float, critical: float) -> float:
    """E = E_min (1 + B / B_crit), the examples that batches of a size need."""
    return min_examples * (1 + batch / critical)
