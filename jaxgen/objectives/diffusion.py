"""The loss of diffusion and flow: the squared error of what is predicted of noisy pictures."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.objectives.base import Loss, Sum
from jaxgen.ops.diffusion.corruption import Corruption, clean_of, corrupt, make_target
from jaxgen.ops.diffusion.variances import bound_terms
from jaxgen.sharding.rules import einsum, mesh_is_set, reshard

EVALUATION_KEY = 0
"""Seed of the noise in evaluation, where no key is given."""


@dataclasses.dataclass(frozen=True)
class DiffusionLoss:
    """The weighted squared error of a number of a picture, averaged over pictures.

    The times of a batch are spread evenly over the distribution that they are drawn from
    (2107.00630, I.1): each row's lies in a stratum of its own. In evaluation times are the middles
    of these, and the noise is always the same, so that two models are compared on equal terms.

    Its metrics are "loss"; "by_noise", the loss in equal parts of that distribution, from the
    cleanest, labelled 1 to `parts`; and with learned variances "bound", in nats a number.

    Attributes:
      corruption: the noise, what is predicted of it, and how errors weigh.
      bound_weight: of the bound on the likelihood where variances are learned, times the steps of
        the process (2102.09672 has 0.001).
      parts: of "by_noise".
    """

    corruption: Corruption = Corruption()
    bound_weight: NonNegativeFloat = 0.001
    parts: PositiveInt = 4

    loss_unit: ClassVar[str] = "squared error/number"

    def __post_init__(self):
        check_domains(self, "diffusion_loss")

    def __call__(self, model: Any, batch: Any, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a model such as `models.diffusion.model.DiffusionModel`."""
        corruption, schedule = self.corruption, self.corruption.schedule
        keys: Any = jax.random.split(jax.random.key(EVALUATION_KEY) if key is None else key, 4)
        x = model.clean(batch, None if key is None else keys[3]) / schedule.data_stddev
        shares = strata(keys[0], x.shape[0], key is not None)
        times = schedule.quantile(shares)
        batch_axis = model.layout.rules.activation("batch")

        def on_rows(values: jax.Array) -> jax.Array:
            return reshard(values, batch_axis)

        alpha, sigma = map(on_rows, schedule.alpha_sigma(times))
        layout = jax.typeof(x).sharding if mesh_is_set() else None
        noise = jax.random.normal(keys[1], x.shape, x.dtype, out_sharding=layout)
        wide = (..., *[None] * (x.ndim - 1))
        x_t = corrupt(x, noise, alpha[wide], sigma[wide])
        output = model.predict(
            x_t, on_rows(schedule.network_time(times)), batch, None if key is None else keys[2]
        )
        prediction, share = split_variance(output, x.shape[-1], corruption.learned_variance)
        target = make_target(corruption.target, x, noise, alpha[wide], sigma[wide])
        axes = tuple(range(1, x.ndim))
        errors = corruption.loss_weight(alpha, sigma)
        errors = errors * jnp.mean(jnp.square(prediction - target), axis=axes)
        rows = jnp.float32(x.shape[0])
        total = jnp.sum(errors)
        part = jnp.minimum(jnp.floor(shares * self.parts), self.parts - 1)
        of_part = part[:, None] == jnp.arange(self.parts)
        is_of = reshard(of_part.astype(jnp.float32), jax.P(*batch_axis, None))
        labels = tuple(str(number + 1) for number in range(self.parts))
        metrics = {
            "loss": Sum(total, rows),
            "by_noise": Sum(
                einsum("b,bp->p", errors, is_of, out=jax.P()), jnp.sum(is_of, axis=0), labels
            ),
        }
        if share is not None:
            # The bound teaches the variance alone (2102.09672, 3.1).
            fixed = jax.lax.stop_gradient(prediction)
            clean = clean_of(corruption.target, fixed, x_t, alpha[wide], sigma[wide])
            betas: Any = schedule
            terms = bound_terms(betas, x, x_t, times, clean, share)
            bound = betas.steps * jnp.sum(terms)
            total = total + self.bound_weight * bound
            metrics["bound"] = Sum(bound, rows)
        return Loss(total, rows, metrics)


def strata(key: jax.Array, rows: int, is_training: bool) -> jax.Array:
    """Returns a number from (0, 1) for each row, [rows], spread evenly.

    Args:
      key: of the numbers.
      rows: how many.
      is_training: whether each is drawn from its stratum, whose order is too; else the middles.
    """
    order = jnp.arange(rows)
    inside: Any = 0.5
    if is_training:
        first, second = jax.random.split(key)
        order = jax.random.permutation(first, rows)
        inside = jax.random.uniform(second, (rows,), minval=1e-4, maxval=1 - 1e-4)
    return (order + inside) / rows


def split_variance(
    output: jax.Array, channels: int, is_learned: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Returns what a network predicts, and where its variances lie, from 0 to 1, or None.

    Raises:
      ConfigError: if it has not the channels for it.
    """
    wanted = channels * (2 if is_learned else 1)
    if output.shape[-1] != wanted:
        raise ConfigError(
            f"the denoiser gives {output.shape[-1]} channels for a picture of {channels}, and "
            f"corruption.learned_variance={is_learned} needs {wanted}: set the denoiser's "
            "out_channels, or the corruption's learned_variance."
        )
    if not is_learned:
        return output, None
    prediction, share = jnp.split(output, 2, axis=-1)
    return prediction, (share + 1) / 2
