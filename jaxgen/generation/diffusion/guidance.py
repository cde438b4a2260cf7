"""What is made of a network's predictions before a sampler uses them: guidance and thresholds."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp

from jaxgen.domains import Domain, check_domains
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (2207.12598): away from what is said without a prompt.

    Attributes:
      scale: w in u + w (c - u), of the predictions without and with a prompt: 1 asks with the
        prompt alone.
      first: where in sampling it begins, as a share of its steps (2404.07724); outside, it is 1.
      stop: where it ends.
      rescale: how far the deviation of each picture's guided prediction is brought back to that of
        the one with the prompt (2305.08891, 3.4): 0 not at all, 1 wholly.
    """

    scale: Annotated[float, Domain(0, 1000)] = 1.0
    first: Annotated[float, Domain(0, 1)] = 0.0
    stop: Annotated[float, Domain(0, 1)] = 1.0
    rescale: Annotated[float, Domain(0, 1)] = 0.0

    def __post_init__(self):
        check_domains(self, "guidance")
        if self.first >= self.stop:
            raise ConfigError(
                f"guidance.first={self.first:g} must be below guidance.stop={self.stop:g}."
            )

    @property
    def is_none(self) -> bool:
        """Whether nothing is asked without a prompt."""
        return self.scale == 1

    def scale_at(self, share: Any) -> Any:
        """Returns the scale at a share of the steps."""
        is_inside = (share >= self.first) & (share < self.stop)
        return jnp.where(is_inside, self.scale, 1.0)

    def combine(self, told: Any, untold: Any, share: Any) -> Any:
        """Returns the guided prediction of pictures [batch, ...] at a share of the steps."""
        guided = untold + self.scale_at(share) * (told - untold)
        if not self.rescale:
            return guided
        axes = tuple(range(1, guided.ndim))
        deviations = [jnp.std(one, axis=axes, keepdims=True) for one in (told, guided)]
        back = guided * (deviations[0] / jnp.maximum(deviations[1], 1e-12))
        return self.rescale * back + (1 - self.rescale) * guided


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Bounds on the clean picture that follows from a prediction (2205.11487, 2.3).

    Attributes:
      kind: "static": numbers are cut off at -1 and 1; "dynamic": at the percentile s of a picture's
        absolute numbers, if that is above 1, and divided by it.
      percentile: see there, as a share.
      most: that s is cut off at.
    """

    kind: Literal["static", "dynamic"] = "static"
    percentile: Annotated[float, Domain(0, 1, "(]")] = 0.995
    most: Annotated[float, Domain(1, 1000)] = 1000.0

    def __post_init__(self):
        check_domains(self, "threshold")

    def bound(self, clean: Any) -> Any:
        """Returns pictures [batch, ...] within the bounds."""
        if self.kind == "static":
            return jnp.clip(clean, -1, 1)
        flat = jnp.abs(clean).reshape(clean.shape[0], -1)
        bound = jnp.clip(jnp.quantile(flat, self.percentile, axis=1), 1.0, self.most)
        bound = bound.reshape(-1, *[1] * (clean.ndim - 1))
        return jnp.clip(clean, -bound, bound) / bound
