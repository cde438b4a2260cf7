"""The schedule of discrete steps: DDPM's, Stable Diffusion's, and the cosine of improved DDPM."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import numpy as np

from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.ops.diffusion.schedules import Spacing, array_module, karras

LEAST_ALPHA = 1e-12
"""Of what lies between two steps, one of which has no signal."""


@dataclasses.dataclass(frozen=True)
class Betas:
    """A variance-preserving schedule of discrete steps (DDPM, 2006.11239).

    A time is the number of a step, from 0; the product of 1 - beta up to it is alpha^2. Between two
    numbers the logarithm of sigma / alpha is interpolated.

    Attributes:
      kind: "linear" from `first` to `last_beta`; "scaled_linear", linear in the square root (Stable
        Diffusion); "cosine" (2102.09672), whose betas are at most 0.999.
      steps: of the process.
      first: the first beta of the linear kinds.
      last_beta: their last.
      zero_terminal: whether the square roots are shifted and stretched so that the last time has
        no signal at all (2305.08891); predict v then.
    """

    kind: Literal["linear", "scaled_linear", "cosine"] = "linear"
    steps: PositiveInt = 1000
    first: PositiveFloat = 1e-4
    last_beta: PositiveFloat = 0.02
    zero_terminal: bool = False

    def __post_init__(self):
        check_domains(self, "betas")
        if self.kind != "cosine" and not self.first <= self.last_beta < 1:
            raise ConfigError(
                f"betas.first={self.first:g} and betas.last_beta={self.last_beta:g}: they rise, "
                "and are below 1."
            )

    @property
    def last(self) -> float:
        """The last step's number."""
        return float(self.steps - 1)

    @property
    def data_stddev(self) -> float:
        """1: pictures are corrupted as they are."""
        return 1.0

    @functools.cached_property
    def betas(self) -> np.ndarray:
        """The share of the variance that each step replaces by noise, [steps] float64."""
        squares = np.square(self.alphas)
        return 1 - squares / np.concatenate([[1.0], squares[:-1]])

    @functools.cached_property
    def alphas(self) -> np.ndarray:
        """Alpha of each step, [steps] float64."""
        if self.kind == "cosine":
            ends = np.arange(self.steps + 1) / self.steps
            bar = np.square(np.cos((ends + 0.008) / 1.008 * math.pi / 2))
            betas = np.minimum(1 - bar[1:] / bar[:-1], 0.999)
        elif self.kind == "linear":
            betas = np.linspace(self.first, self.last_beta, self.steps)
        else:
            betas = np.square(np.linspace(self.first**0.5, self.last_beta**0.5, self.steps))
        alphas = np.sqrt(np.cumprod(1 - betas))
        if not self.zero_terminal:
            return alphas
        return (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])

    def alpha_sigma(self, times: Any) -> tuple[Any, Any]:
        """Returns alpha and sigma; of a time before 0, 1 and 0."""
        xp = array_module(times)
        alphas = self.alphas
        # Steps are looked up, so that what lies between them changes none.
        ratio = np.log(np.sqrt(1 - np.square(alphas)) / np.maximum(alphas, LEAST_ALPHA))
        low = xp.clip(xp.floor(times), 0, self.steps - 1).astype(int)
        high = xp.minimum(low + 1, self.steps - 1)
        share = times - low
        table, ratios = xp.asarray(alphas), xp.asarray(ratio)
        inside = ratios[low] + share * (
            xp.where(share > 0, ratios[high], ratios[low]) - ratios[low]
        )
        exact = table[low]
        alpha = xp.where(share == 0, exact, xp.sqrt(1 / (1 + xp.exp(2 * inside))))
        sigmas = xp.asarray(np.sqrt(1 - np.square(alphas)))
        sigma = xp.where(share == 0, sigmas[low], xp.sqrt(1 / (1 + xp.exp(-2 * inside))))
        is_clean = times < 0
        return xp.where(is_clean, 1.0, alpha), xp.where(is_clean, 0.0, sigma)

    def network_time(self, times: Any) -> Any:
        """Returns the numbers of the steps."""
        return times

    def quantile(self, shares: Any) -> Any:
        """Returns numbers of steps, each as often as another."""
        xp = array_module(shares)
        return xp.minimum(xp.floor(shares * self.steps), self.steps - 1.0)

    def times(self, steps: int, spacing: Spacing | None = None) -> np.ndarray:
        """Returns numbers of steps, the noisiest first.

        "trailing", the schedule's own, begins at the last step (2305.08891); "leading" ends at the
        first; "linspace" has both ends and may lie between steps, "karras" is even in
        (sigma / alpha)^(1/7) (2206.00364) and lies between them too.
        """
        if steps > self.steps:
            raise ConfigError(
                f"a sampler of {steps} steps, and the process has {self.steps}; take fewer."
            )
        if spacing in (None, "trailing"):
            return np.round(np.arange(self.steps, 0, -self.steps / steps))[:steps] - 1
        if spacing == "leading":
            return np.arange(steps)[::-1] * float(self.steps // steps)
        if spacing == "linspace":
            return np.linspace(0, self.steps - 1, steps)[::-1].copy()
        alphas = self.alphas if not self.zero_terminal else self.alphas[:-1]
        ratios = np.sqrt(1 - np.square(alphas)) / alphas
        wanted = karras(ratios[0], ratios[-1], steps)
        return np.interp(np.log(wanted), np.log(ratios), np.arange(len(ratios)))
