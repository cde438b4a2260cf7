"""The gradient noise scale: how large a batch pays (McCandlish et al., 1812.06162).

The gradient of a batch of B is the true one, G, plus noise of covariance Sigma / B. A step at batch
B gains as much as one without noise, divided by 1 + B_noise / B, where the simple noise scale is
B_simple = tr(Sigma) / |G|^2. Two batch sizes tell both parts without bias (appendix A.1): in a
data-parallel step the small one is a device's, the large one the whole. Their ratio is biased and
noisy, so each part has its own running mean, and the ratio is taken last.

Batch sizes are in any one unit (rows, tokens) and so is the noise scale.
"""

from __future__ import annotations

import dataclasses
import math

from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class NoiseMeans:
    """Running means; begin with `NoiseMeans()`.

    Attributes:
      gradient: of |G|^2, not yet corrected for its start at 0.
      noise: of tr(Sigma), likewise.
      weight: of what was seen, below 1.
    """

    gradient: float = 0.0
    noise: float = 0.0
    weight: float = 0.0

    @property
    def squared_gradient(self) -> float:
        """The mean of |G|^2; nan before anything is seen."""
        return self.gradient / self.weight if self.weight else math.nan

    @property
    def variance(self) -> float:
        """The mean of tr(Sigma); nan before anything is seen."""
        return self.noise / self.weight if self.weight else math.nan

    @property
    def noise_scale(self) -> float:
        """B_simple; nan where the means do not show a gradient (|G|^2 <= 0)."""
        gradient = self.squared_gradient
        return self.variance / gradient if gradient > 0 else math.nan


def gradient_and_noise(
    small_norm2: float, big_norm2: float, small_batch: float, big_batch: float
) -> tuple[float, float]:
    """Unbiased estimates of |G|^2 and of tr(Sigma) from the squared norms of two gradients.

    Either may come out negative; only their means mean something.

    Args:
      small_norm2: |G_small|^2, or the mean of several of that size.
      big_norm2: |G_big|^2.
      small_batch: over how many examples the small ones are means.
      big_batch: over how many the big one is.

    Raises:
      ConfigError: if the batches are not of two sizes.
    """
    if not 0 < small_batch < big_batch:
        raise ConfigError(
            f"small_batch={small_batch} and big_batch={big_batch} must be positive and ascending."
        )
    gradient = (big_batch * big_norm2 - small_batch * small_norm2) / (big_batch - small_batch)
    noise = (small_norm2 - big_norm2) / (1 / small_batch - 1 / big_batch)
    return gradient, noise


def update_noise(means: NoiseMeans, gradient: float, noise: float, decay: float) -> NoiseMeans:
    """The means after one more pair of estimates; `decay` is the share of the old, as 0.99."""
    if not 0 <= decay < 1:
        raise ConfigError(f"decay={decay} must be in [0, 1).")

    def mix(old: float, new: float) -> float:
        return decay * old + (1 - decay) * new

    return NoiseMeans(
        mix(means.gradient, gradient), mix(means.noise, noise), mix(means.weight, 1.0)
    )


def critical_batch(min_examples: float, min_steps: float) -> float:
    """B_crit = E_min / S_min, of the trade-off (S / S_min - 1)(E / E_min - 1) = 1.

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
