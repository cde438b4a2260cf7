"""What makes pictures from latents sharp: features compared, and a discriminator deceived."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import NonNegativeFloat, NonNegativeInt, check_domains
from jaxgen.objectives.base import Sum
from jaxgen.ops.convolution import average_pool, convolve

SCALES = 3
FEATURES = (32, 48)
SEED = 19


@dataclasses.dataclass(frozen=True)
class Realism:
    """Compares pictures by features, and by what a discriminator of patches takes them for.

    The features are of two convolutions with fixed random weights at three resolutions, each
    place's made of length 1 as LPIPS (1801.03924) has those of a trained network, which is not to
    be had here. The discriminator is a part of the model and learns in the same step, by the hinge
    loss (2112.10752, appendix G): one gradient goes to it from pictures held fixed, another to
    the pictures from it held fixed. The authors weigh the second by a ratio of gradients; here the
    weight is a number. Metrics are "perceptual", "adversarial" and "discriminator".

    Attributes:
      perceptual_weight: of the squared difference of features.
      adversarial_weight: of the discriminator's number for what was made; 0: there is no
        discriminator.
      judged_from: the step from which on there is a discriminator.
    """

    perceptual_weight: NonNegativeFloat = 1.0
    adversarial_weight: NonNegativeFloat = 0.0
    judged_from: NonNegativeInt = 0

    def __post_init__(self):
        check_domains(self, "realism")

    def __call__(self, model: Any, output: Any, judged: Any) -> tuple[jax.Array, dict[str, Sum]]:
        """Returns what joins the loss of a batch, summed over its pictures, and metrics.

        Args:
          model: has `judge`, see `models.diffusion.kl_autoencoder.KlAutoencoder`.
          output: the model's, with `targets` and `centre` from -1 to 1.
          judged: whether there is a discriminator at this step, which may be traced.
        """
        rows = jnp.float32(output.targets.shape[0])
        distance = jnp.sum(perceptual_distance(output.targets, output.centre))
        total, metrics = self.perceptual_weight * distance, {"perceptual": Sum(distance, rows)}
        if not self.adversarial_weight:
            return total, metrics
        taken_for = -jnp.sum(_means(model.judge(output.centre, is_fixed=True)))
        real = model.judge(output.targets)
        made = model.judge(jax.lax.stop_gradient(output.centre))
        hinges = jnp.sum(_means(jax.nn.relu(1 - real)) + _means(jax.nn.relu(1 + made))) / 2
        total += jnp.where(judged, self.adversarial_weight * taken_for + hinges, 0.0)
        more = {"adversarial": Sum(taken_for, rows), "discriminator": Sum(hinges, rows)}
        return total, metrics | more


def perceptual_distance(targets: jax.Array, made: jax.Array) -> jax.Array:
    """Returns the squared difference of features of pictures [batch, ...], [batch]."""
    total = jnp.zeros(())
    for scale in range(SCALES):
        if scale:
            targets, made = average_pool(targets), average_pool(made)
        for one, other in zip(_features(targets), _features(made), strict=True):
            squares = jnp.sum(jnp.square(one - other), axis=-1)
            total = total + jnp.mean(squares, axis=(1, 2)) / (SCALES * len(FEATURES))
        if min(targets.shape[1:3]) % 2 or min(targets.shape[1:3]) <= 2:
            break
    return total


def _features(pictures: jax.Array) -> list[jax.Array]:
    """Returns what the convolutions give, every place's of length 1."""
    found, x = [], pictures
    for weight in _weights(pictures.shape[-1]):
        x = jax.nn.relu(convolve(x, jnp.asarray(weight)))
        found.append(x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-6))
    return found


@functools.cache
def _weights(channels: int) -> tuple[np.ndarray, ...]:
    random, made, n_in = np.random.default_rng(SEED), [], channels
    for n_out in FEATURES:
        weight = random.normal(size=(3, 3, n_in, n_out)) * (2 / (9 * n_in)) ** 0.5
        # Filters of the first layer see differences between pixels, not the colour of an area.
        made.append((weight - weight.mean((0, 1)) * (n_in == channels)).astype(np.float32))
        n_in = n_out
    return tuple(made)


def _means(patches: jax.Array) -> jax.Array:
    return jnp.mean(patches, axis=(1, 2))
