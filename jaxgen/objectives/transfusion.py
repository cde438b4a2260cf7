"""The loss of one model for text and pictures: cross-entropy of the one, flow of the other."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxgen.batch import Batch
from jaxgen.domains import NonNegativeFloat, PositiveFraction, check_domains
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.diffusion import EVALUATION_KEY, strata
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.diffusion.corruption import Corruption, corrupt, make_target
from jaxgen.ops.diffusion.schedules import RectifiedFlow
from jaxgen.ops.pixels import as_numbers
from jaxgen.sharding.rules import mesh_is_set, reshard


@dataclasses.dataclass(frozen=True)
class TransfusionLoss:
    """Next-token loss on text and the loss of denoising on pictures of the same rows (2408.11039).

    A place of a row counts once: a token of text its cross-entropy, a patch `picture_weight` times
    the weighted squared error of one of its numbers. The reported "loss" is that of text, in nats a
    token, and "flow" that of pictures, a number.

    A picture whose token of beginning is in the loss is one to draw, and a row's others, which are
    there to be described, are made noisy up to `given_noise` alone. Each has a time of its own,
    spread evenly over the distribution; in evaluation the times and the noise are always the same.

    Attributes:
      corruption: the noise of pictures, what is predicted of them, and how errors weigh.
      picture_weight: on the errors of patches.
      given_noise: the share of the distribution of times, from the cleanest, that pictures to be
        described have.
      text: the loss of text.
    """

    corruption: Corruption = Corruption(schedule=RectifiedFlow(), target="flow")
    picture_weight: NonNegativeFloat = 5.0
    given_noise: PositiveFraction = 0.5
    text: NextToken = NextToken()

    loss_unit: ClassVar[str] = "nats/token"

    def __post_init__(self):
        check_domains(self, "transfusion_loss")

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a model such as `models.transfusion.Transfusion`."""
        corruption, form = self.corruption, model.config.pictures
        schedule, rules = corruption.schedule, model.layout.rules
        keys: Any = jax.random.split(jax.random.key(EVALUATION_KEY) if key is None else key, 3)
        media: Any = batch.media
        pixels = media[model.config.picture_input.modality]
        x = as_numbers(pixels) / schedule.data_stddev
        split = rules.activation("batch", None)
        shares = strata(keys[0], x.shape[0] * x.shape[1], key is not None).reshape(x.shape[:2])
        is_drawn = self._is_drawn(batch, model)

        def levels(shares: jax.Array) -> list[jax.Array]:
            times = schedule.quantile(shares)
            told = (*schedule.alpha_sigma(times), schedule.network_time(times))
            return [reshard(one, split) for one in told]

        given = levels(shares * self.given_noise)
        alpha, sigma, time = (
            jnp.where(is_drawn, *pair) for pair in zip(levels(shares), given, strict=True)
        )
        layout = jax.typeof(x).sharding if mesh_is_set() else None
        noise = jax.random.normal(keys[1], x.shape, x.dtype, out_sharding=layout)
        wide = (..., None, None, None)
        noisy = corrupt(x, noise, alpha[wide], sigma[wide])
        found = model.flow(batch, noisy, time, None if key is None else keys[2])
        target = make_target(corruption.target, x, noise, alpha[wide], sigma[wide])
        errors = jnp.mean(jnp.square(found.predictions - target), axis=(2, 3, 4))
        errors = errors * corruption.loss_weight(alpha, sigma)
        is_there = reshard(found.is_there, split).astype(jnp.float32)
        flow, pictures = jnp.sum(errors * is_there), jnp.sum(is_there)
        text = self.text.of_output(model, batch, found.output)
        total = text.total + self.picture_weight * form.num_tokens * flow
        weight = text.weight + form.num_tokens * pictures
        return Loss(total, weight, text.metrics | {"flow": Sum(flow, pictures)})

    def _is_drawn(self, batch: Batch, model: Any) -> jax.Array:
        """Returns which pictures of each row are to be drawn, [batch, pictures] bool."""
        rules, one = model.layout.rules, model.config.picture_input
        media: Any = batch.media
        rows = rules.activation("batch", None)
        tokens = reshard(jnp.asarray(batch.tokens), rows)
        weights = reshard(jnp.asarray(batch.loss_weights), rows)
        is_patch = (tokens == one.token).astype(jnp.int32)
        # The token before the one that begins a picture predicts it; two places before the first
        # patch.
        begins = is_patch * (jnp.cumsum(is_patch, axis=1) % one.num_vectors == 1 % one.num_vectors)
        predicts = jnp.pad(begins[:, 2:], ((0, 0), (0, 2)))
        number = jnp.cumsum(predicts, axis=1)
        count = media[one.modality].shape[1]
        is_of = (number[..., None] == jnp.arange(1, count + 1)) & (predicts[..., None] > 0)
        return jnp.sum(is_of * weights[..., None], axis=1) > 0
