"""The loss of autoencoders: how well rows come back from their codes."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, NonNegativeInt, PositiveFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.fidelity import code_shares, psnr, si_sdr
from jaxgen.objectives.realism import Realism
from jaxgen.ops.logit_laplace import negative_log_density
from jaxgen.sharding.rules import reshard

Likelihood = Literal["l1", "l2", "logit_laplace"]
UNITS = {"l1": "error/number", "l2": "squared error/number", "logit_laplace": "nats/number"}


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The loss of a number of a row, averaged, and the divergence of codes from uniform ones.

    Its metrics are "loss"; "reconstruction", without the divergence; "kl" in nats a row, of codes
    that are drawn; "psnr" of pictures and "si_sdr" of sounds in dB; and of the codes of a batch (a
    microbatch, where there are several) "codes_used", the share of all codes, and "code_nats",
    their entropy, whose exponential is the perplexity; of latents that are no codes
    "latent_square", the mean square of their likeliest values.

    Attributes:
      likelihood: "l1" or "l2", a distance to the number that the decoder gives; "logit_laplace",
        the negative logarithm of a density, for models with that output.
      kl_weight: of the divergence of a row, which is divided by the numbers of a row like the loss
        of those.
      kl_steps: steps over which the weight rises from 0.
      temperature: of codes that are drawn, at the first step.
      last_temperature: at `temperature_steps` and after, reached along half a cosine.
      temperature_steps: see there; 0: it stays.
      realism: how pictures are compared beside number by number; None: they are not.
    """

    likelihood: Likelihood = "l2"
    kl_weight: NonNegativeFloat = 0.0
    kl_steps: NonNegativeInt = 0
    temperature: PositiveFloat = 1.0
    last_temperature: PositiveFloat = 1 / 16
    temperature_steps: NonNegativeInt = 0
    realism: Realism | None = None

    def __post_init__(self):
        check_domains(self, "reconstruction_loss")

    @property
    def loss_unit(self) -> str:
        """Returns what the loss is counted in."""
        return UNITS[self.likelihood]

    def __call__(self, model: Any, batch: MediaBatch, key: jax.Array | None = None) -> Loss:
        """Returns the loss of a model such as `models.autoencoder.Autoencoder`, at the end."""
        last = self.last_temperature if self.temperature_steps else self.temperature
        return self._loss(self.kl_weight, last, 1.0, model, batch, key)

    def at_step(self, step: jax.Array) -> Any:
        """Returns the objective of a step, which may be traced."""
        risen, cooled = (
            jnp.minimum(step / steps, 1.0) if steps else 1.0
            for steps in (self.kl_steps, self.temperature_steps)
        )
        temperature = self.temperature
        if self.temperature_steps:
            mix = (1 + jnp.cos(math.pi * cooled)) / 2
            temperature = mix * self.temperature + (1 - mix) * self.last_temperature
        judged = 1.0 if self.realism is None else step >= self.realism.judged_from
        return functools.partial(self._loss, self.kl_weight * risen, temperature, judged)

    def _loss(
        self,
        kl_weight: Any,
        temperature: Any,
        judged: Any,
        model: Any,
        batch: MediaBatch,
        key: Any,
    ) -> Loss:
        output = model(batch, key=key, temperature=temperature)
        rows = jnp.float32(output.values.shape[0])
        numbers = math.prod(output.values.shape[1:])
        axes = tuple(range(1, output.values.ndim))
        reconstruction = jnp.sum(jnp.mean(self._errors(output), axis=axes))
        total = reconstruction
        metrics = {"reconstruction": Sum(reconstruction, rows)}
        if output.kl is not None:
            kl = jnp.sum(output.kl)
            total += kl_weight * kl / numbers
            metrics["kl"] = Sum(kl, rows)
        elif self.kl_weight:
            raise ConfigError(
                f"reconstruction_loss.kl_weight={self.kl_weight:g} with a model whose codes are "
                "rounded, not drawn, and have no divergence; set it to 0."
            )
        name, fidelity = ("psnr", psnr) if output.values.ndim > 2 else ("si_sdr", si_sdr)
        metrics[name] = Sum(jnp.sum(fidelity(output.values, output.made)), rows)
        if output.codes is None:
            squares = jnp.mean(jnp.square(output.latents), axis=axes)
            metrics["latent_square"] = Sum(jnp.sum(squares), rows)
        else:
            codes = reshard(output.codes, jax.P(None, None))
            shares = code_shares(codes, model.config.num_codes)
            used = jnp.mean(shares > 0, dtype=jnp.float32) * rows
            entropy = -jnp.sum(jax.scipy.special.xlogy(shares, shares)) * rows
            metrics |= {"codes_used": Sum(used, rows), "code_nats": Sum(entropy, rows)}
        if self.realism is not None:
            more, of_realism = self.realism(model, output, judged)
            total += more
            metrics |= of_realism
        return Loss(total, rows, {"loss": Sum(total, rows), **metrics})

    def _errors(self, output: Any) -> jax.Array:
        """Returns the loss of each number of each row."""
        if (output.log_scale is not None) != (self.likelihood == "logit_laplace"):
            has = "value" if output.log_scale is None else "logit_laplace"
            fitting = "'l1' or 'l2'" if output.log_scale is None else "'logit_laplace'"
            raise ConfigError(
                f"reconstruction_loss.likelihood={self.likelihood!r} with a model whose output is "
                f"{has!r}: set the likelihood to {fitting}, or the model's output."
            )
        if self.likelihood == "logit_laplace":
            return negative_log_density(output.targets, output.centre, output.log_scale)
        difference = output.centre - output.targets
        return jnp.abs(difference) if self.likelihood == "l1" else jnp.square(difference)
