"""What a network predicts of a noisy picture, and how predictions become one another.

With x_t = alpha x + sigma n, a network may predict x ("x"), n ("noise"), alpha n - sigma x ("v",
2202.00512) or n - x ("flow"). Any of them, with x_t, gives the others; all functions are plain
arithmetic, of numpy's arrays and of traced ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jaxgen.domains import PositiveFloat, check_domains
from jaxgen.errors import ConfigError
from jaxgen.ops.diffusion.betas import Betas
from jaxgen.ops.diffusion.schedules import Schedule, array_module

Target = Literal["x", "noise", "v", "flow"]
Weight = Literal["target", "x", "noise", "v", "flow", "min_snr"]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A schedule, what is predicted, and how errors at different times weigh.

    Attributes:
      schedule: alpha and sigma of times, and how training draws times.
      target: what the network predicts.
      weight: the squared error that the loss is: of the prediction itself ("target"), or of the x,
        noise, v or flow that follows from it; "min_snr": that of x, times the ratio of signal to
        noise, at most `max_snr` (2303.09556).
      max_snr: see there.
      max_weight: what weights are cut off at, such as 400 where x is predicted and the loss is
        flow's, which divides by sigma (2511.13720); None: nothing.
      learned_variance: whether the network has as many channels again, which say where between its
        bounds the logarithm of a step's variance lies (2102.09672); needs discrete steps.
    """

    schedule: Schedule = Betas()
    target: Target = "noise"
    weight: Weight = "target"
    max_snr: PositiveFloat = 5.0
    max_weight: PositiveFloat | None = None
    learned_variance: bool = False

    def __post_init__(self):
        check_domains(self, "corruption")
        if self.learned_variance and not hasattr(self.schedule, "betas"):
            raise ConfigError(
                "corruption.learned_variance is of the steps of a discrete process; bind "
                "corruption.schedule = @betas(), or leave it out."
            )
        if self.target == "noise" and getattr(self.schedule, "zero_terminal", False):
            raise ConfigError(
                "corruption.target='noise' with betas.zero_terminal: where there is no signal, "
                "the noise says nothing of x; set corruption.target = 'v'."
            )

    def loss_weight(self, alpha: Any, sigma: Any) -> Any:
        """Returns the factor on the squared error of the prediction at these times."""
        weight = self._weight(alpha, sigma)
        if self.max_weight is None:
            return weight
        return array_module(alpha).minimum(weight, self.max_weight)

    def _weight(self, alpha: Any, sigma: Any) -> Any:
        if self.weight == "target":
            return array_module(alpha).ones_like(alpha)
        # An error e of the target is one of sigma * shared * e in x.
        shared = _per_sigma(self.target, alpha, sigma)
        if self.weight == "min_snr":
            minimum = array_module(alpha).minimum
            return minimum((alpha * shared) ** 2, self.max_snr * (sigma * shared) ** 2)
        return (shared / _per_sigma(self.weight, alpha, sigma)) ** 2


def corrupt(x: Any, noise: Any, alpha: Any, sigma: Any) -> Any:
    """Returns the noisy picture x_t."""
    return alpha * x + sigma * noise


def make_target(target: Target, x: Any, noise: Any, alpha: Any, sigma: Any) -> Any:
    """Returns what the network is to predict."""
    if target == "x":
        return x
    if target == "noise":
        return noise
    return alpha * noise - sigma * x if target == "v" else noise - x


def clean_of(target: Target, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """Returns x from a prediction; of "noise" there is none where alpha is 0."""
    if target == "x":
        return prediction
    if target == "noise":
        return (x_t - sigma * prediction) / alpha
    if target == "v":
        return (alpha * x_t - sigma * prediction) / (alpha * alpha + sigma * sigma)
    return (x_t - sigma * prediction) / (alpha + sigma)


def noise_of(target: Target, prediction: Any, x_t: Any, alpha: Any, sigma: Any) -> Any:
    """Returns the noise from a prediction; of "x" there is none where sigma is 0."""
    if target == "noise":
        return prediction
    if target == "x":
        return (x_t - alpha * prediction) / sigma
    if target == "v":
        return (sigma * x_t + alpha * prediction) / (alpha * alpha + sigma * sigma)
    return (x_t + alpha * prediction) / (alpha + sigma)


def _per_sigma(target: Target, alpha: Any, sigma: Any) -> Any:
    """Returns the error in x of an error of 1 in the target, divided by sigma."""
    if target == "x":
        return 1 / sigma
    if target == "noise":
        return 1 / alpha
    return 1 / (alpha * alpha + sigma * sigma) if target == "v" else 1 / (alpha + sigma)
