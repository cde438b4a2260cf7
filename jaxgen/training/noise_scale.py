"""The gradient noise scale: how large a batch pays (McCandlish et al., 1812.06162).

The gradient of a batch of B rows is the true one, G, plus noise of covariance Sigma / B. A step at
batch B gains as much as one without noise, divided by 1 + B_noise / B, where the simple noise scale
is B_simple = tr(Sigma) / |G|^2. Two batch sizes tell both parts without bias (appendix A.1): here
the microbatches of a step and the whole. Their ratio is biased and noisy, so each part is averaged
over steps, and the ratio is taken last.

Gradients are means over tokens in the loss, of which microbatches have unlike numbers. With w_i of
them in microbatch i of K, W in all, and g_i and g its gradient and the whole's,

    small^2 = sum_i w_i |g_i|^2 / W,    big^2 = |g|^2,

and small^2 - big^2 = sum_i w_i |g_i - g|^2 / W. Where the noise of g_i falls as 1 / w_i, the first
is in expectation that of a batch K times smaller than the second.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxgen.errors import ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientNoise:
    """Unbiased estimates. Either may come out negative; only their means mean something.

    Attributes:
      squared_gradient: |G|^2, a scalar.
      variance: tr(Sigma), a scalar; of one row, where batches are counted in rows.
    """

    squared_gradient: Any
    variance: Any


def gradient_noise(
    small_norm2: Any, big_norm2: Any, small_batch: float, big_batch: float
) -> GradientNoise:
    """Returns the noise, from the squared norms of the gradients of two batch sizes.

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
    return GradientNoise(
        (big_batch * big_norm2 - small_batch * small_norm2) / (big_batch - small_batch),
        (small_norm2 - big_norm2) / (1 / small_batch - 1 / big_batch),
    )
