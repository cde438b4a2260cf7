"""The bound on the likelihood of a discrete process with learned variances (2102.09672).

All in nats a number of x, which is a pixel from -1 to 1 in steps of 2 / 255.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.diffusion.betas import Betas

HALF_STEP = 1 / 255


def posterior(betas: Betas, x: Any, x_t: Any, times: Any) -> tuple[Any, Any, Any]:
    """Returns the mean of the step before, given x, and the logarithms of two variances of it.

    Args:
      betas: the process.
      x: the picture, [batch, ...].
      x_t: what it is at `times`.
      times: [batch] numbers of steps.

    Returns:
      The mean like x; the logarithms [batch, ...] of the posterior's variance and of beta. The
      posterior's is 0 in the first step, and the next step's is taken there.
    """
    alphas = betas.alphas
    before = np.concatenate([[1.0], alphas[:-1]])
    beta, free, free_before = betas.betas, 1 - alphas**2, 1 - before**2
    small = beta * free_before / free
    small[0] = small[1] if len(small) > 1 else beta[0]
    of_x, of_x_t = before * beta / free, np.sqrt(1 - beta) * free_before / free
    step = times.astype(int)

    def at(table: np.ndarray) -> Any:
        return jnp.asarray(table, x.dtype)[step].reshape(-1, *[1] * (x.ndim - 1))

    return at(of_x) * x + at(of_x_t) * x_t, at(np.log(small)), at(np.log(beta))


def bound_terms(betas: Betas, x: Any, x_t: Any, times: Any, clean: Any, share: Any) -> jax.Array:
    """Returns the bound's term of each row's step, [batch] nats a number.

    Args:
      betas: the process.
      x: the pictures.
      x_t: what they are at `times`.
      times: [batch].
      clean: what the network says of x.
      share: where the logarithm of its variance lies between the posterior's and beta's, from 0 to
        1.
    """
    axes = tuple(range(1, x.ndim))
    mean, small, large = posterior(betas, x, x_t, times)
    own_mean = posterior(betas, clean, x_t, times)[0]
    log_variance = share * large + (1 - share) * small
    divergence = 0.5 * (
        log_variance
        - small
        + jnp.exp(small - log_variance)
        + jnp.square(mean - own_mean) * jnp.exp(-log_variance)
        - 1
    )
    first = -discretised_log_probability(x, own_mean, 0.5 * log_variance)
    is_first = (times < 1).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.mean(jnp.where(is_first, first, divergence), axis=axes)


def discretised_log_probability(x: Any, mean: Any, log_scale: Any) -> jax.Array:
    """Returns the log-probability of each pixel's interval under a normal (2006.11239, 3.3)."""
    centred, inverse = x - mean, jnp.exp(-log_scale)
    above = jax.scipy.stats.norm.cdf(inverse * (centred + HALF_STEP))
    below = jax.scipy.stats.norm.cdf(inverse * (centred - HALF_STEP))
    inside = jnp.where(x > 1 - HALF_STEP, 1 - below, above - below)
    return jnp.log(jnp.maximum(jnp.where(x < HALF_STEP - 1, above, inside), 1e-12))
