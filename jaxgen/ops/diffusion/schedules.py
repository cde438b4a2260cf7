"""How much of a picture and how much noise there is at each time.

At a time t, x_t = alpha(t) x + sigma(t) n, with n a standard normal. A schedule's functions take
numpy arrays of float64, for samplers and closed forms, and traced arrays, for training. Your own is
a frozen dataclass with the members of `Schedule`, bound in gin as `corruption.schedule`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import Domain, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError

Spacing = Literal["leading", "trailing", "linspace", "karras"]
"""How a sampler's times lie: see `Schedule.times`."""
LEAST_ALPHA = 1e-12
"""Of what lies between two steps, one of which has no signal."""
LEAST_TIME = 1e-5
"""Of times that are drawn, where 0 is without noise."""


def array_module(x: Any) -> Any:
    """Returns numpy for what numpy holds, and jax.numpy for what is on a device or traced."""
    return jnp if isinstance(x, jax.Array) else np


@runtime_checkable
class Schedule(Protocol):
    """Says alpha and sigma of times, of which the noisiest is `last`.

    Attributes:
      last: the noisiest time.
      data_stddev: what x is divided by before it is corrupted.
    """

    @property
    def last(self) -> float: ...

    @property
    def data_stddev(self) -> float: ...

    def alpha_sigma(self, times: Any) -> tuple[Any, Any]:
        """Returns alpha and sigma at times of any shape."""
        ...

    def network_time(self, times: Any) -> Any:
        """Returns times as a network reads them."""
        ...

    def quantile(self, shares: Any) -> Any:
        """Returns the times below which these shares, in (0, 1), of the training times lie."""
        ...

    def times(self, steps: int, spacing: Spacing | None) -> np.ndarray:
        """Returns the times of a sampler's steps, the noisiest first; None: the schedule's own."""
        ...


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


@dataclasses.dataclass(frozen=True)
class Cosine:
    """The continuous variance-preserving schedule alpha = cos(pi t / 2), t from 0 to 1 (Imagen).

    Attributes:
      shift: added to log(alpha^2 / sigma^2), such as 2 log(64 / 256) for larger pictures
        (2301.11093).
      least_alpha: alpha of the noisiest time; 0 leaves no signal.
    """

    shift: Annotated[float, Domain(-20, 20)] = 0.0
    least_alpha: Annotated[float, Domain(0, 1, "[)")] = 1e-3

    def __post_init__(self):
        check_domains(self, "cosine_schedule")

    @property
    def last(self) -> float:
        """The time at which alpha is the least."""
        return 2 / math.pi * math.acos(self.least_alpha) if not self.shift else self._last_shifted

    @property
    def _last_shifted(self) -> float:
        if not self.least_alpha:
            return 1.0
        ratio = math.sqrt(1 - self.least_alpha**2) / self.least_alpha
        return 2 / math.pi * math.atan(ratio * math.exp(self.shift / 2))

    @property
    def data_stddev(self) -> float:
        """1: pictures are corrupted as they are."""
        return 1.0

    def alpha_sigma(self, times: Any) -> tuple[Any, Any]:
        """Returns alpha and sigma."""
        xp = array_module(times)
        angle = times * (math.pi / 2)
        if self.shift:
            angle = xp.arctan2(xp.sin(angle) * math.exp(-self.shift / 2), xp.cos(angle))
        return xp.cos(angle), xp.sin(angle)

    def network_time(self, times: Any) -> Any:
        """Returns times from 0 to 1,000."""
        return times * 1000

    def quantile(self, shares: Any) -> Any:
        """Returns times, each as often as another."""
        return LEAST_TIME + shares * (self.last - LEAST_TIME)

    def times(self, steps: int, spacing: Spacing | None = None) -> np.ndarray:
        """Returns times from the last on, evenly; 0, without noise, is where they lead."""
        check_even("cosine_schedule", spacing)
        return self.last * np.arange(steps, 0, -1) / steps


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """Straight lines between picture and noise: alpha = 1 - t, sigma = t (2209.03003, 2403.03206).

    Attributes:
      shift: s, which moves times towards noise for larger pictures: s t / (1 + (s - 1) t); for
        those that are drawn and those of samplers.
      draw: how training times are drawn: "uniform", or "logit_normal", the sigmoid of a normal.
      mean: of that normal.
      stddev: of that normal.
    """

    shift: PositiveFloat = 1.0
    draw: Literal["uniform", "logit_normal"] = "logit_normal"
    mean: Annotated[float, Domain(-20, 20)] = 0.0
    stddev: PositiveFloat = 1.0

    def __post_init__(self):
        check_domains(self, "rectified_flow")

    @property
    def last(self) -> float:
        """1, which is noise alone."""
        return 1.0

    @property
    def data_stddev(self) -> float:
        """1: pictures are corrupted as they are."""
        return 1.0

    def alpha_sigma(self, times: Any) -> tuple[Any, Any]:
        """Returns 1 - t and t."""
        return 1.0 - times, times

    def network_time(self, times: Any) -> Any:
        """Returns times from 0 to 1,000."""
        return times * 1000

    def quantile(self, shares: Any) -> Any:
        """Returns times as training draws them."""
        times = shares
        if self.draw == "logit_normal":
            times = _sigmoid(self.mean + self.stddev * _normal_quantile(shares))
        return LEAST_TIME + (1 - LEAST_TIME) * self._shifted(times)

    def times(self, steps: int, spacing: Spacing | None = None) -> np.ndarray:
        """Returns times from 1 on, evenly before they are shifted; 0 is where they lead."""
        check_even("rectified_flow", spacing)
        return self._shifted(np.arange(steps, 0, -1) / steps)

    def _shifted(self, times: Any) -> Any:
        return self.shift * times / (1 + (self.shift - 1) * times)


@dataclasses.dataclass(frozen=True)
class Edm:
    """The schedule of Karras et al. (2206.00364), whose times are standard deviations of noise.

    With x divided by `data_stddev` and x_t by the square root of its variance, their preconditioned
    network predicts v (with the sign turned), and their weight of the loss is 1.

    Attributes:
      data_stddev: of pictures.
      log_mean: of the logarithm of the standard deviations that training draws.
      log_stddev: likewise.
      least: standard deviation of a sampler's last step.
      most: of its first.
    """

    data_stddev: PositiveFloat = 0.5
    log_mean: Annotated[float, Domain(-20, 20)] = -1.2
    log_stddev: PositiveFloat = 1.2
    least: PositiveFloat = 0.002
    most: PositiveFloat = 80.0

    def __post_init__(self):
        check_domains(self, "edm")
        if self.least >= self.most:
            raise ConfigError(f"edm.least={self.least:g} must be below edm.most={self.most:g}.")

    @property
    def last(self) -> float:
        """The largest standard deviation."""
        return self.most

    def alpha_sigma(self, times: Any) -> tuple[Any, Any]:
        """Returns alpha and sigma, whose squares add to 1."""
        xp = array_module(times)
        ratio = times / self.data_stddev
        alpha = 1 / xp.sqrt(1 + ratio * ratio)
        return alpha, ratio * alpha

    def network_time(self, times: Any) -> Any:
        """Returns a quarter of the logarithm, a thousand times, as other schedules have it."""
        return array_module(times).log(times) * 250

    def quantile(self, shares: Any) -> Any:
        """Returns standard deviations as training draws them."""
        xp = array_module(shares)
        return xp.exp(self.log_mean + self.log_stddev * _normal_quantile(shares))

    def times(self, steps: int, spacing: Spacing | None = None) -> np.ndarray:
        """Returns standard deviations even in their seventh roots; see `karras`."""
        if spacing not in (None, "karras"):
            raise ConfigError(f"sampler spacing {spacing!r} is not of edm, which has 'karras'.")
        return karras(self.least, self.most, steps)


def karras(least: float, most: float, steps: int, rho: float = 7.0) -> np.ndarray:
    """Returns noise levels from the most to the least, even in their rho-th roots (2206.00364)."""
    roots = np.linspace(most ** (1 / rho), least ** (1 / rho), steps)
    return roots**rho


def check_even(name: str, spacing: Spacing | None) -> None:
    """Raises ConfigError for spacings of the steps of a discrete process."""
    if spacing is not None:
        raise ConfigError(
            f"sampler spacing {spacing!r} is of discrete steps (@betas()), and {name} is "
            "continuous; leave it out."
        )


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + array_module(x).exp(-x))


def _normal_quantile(shares: Any) -> Any:
    if isinstance(shares, jax.Array):
        return jax.scipy.special.ndtri(shares)
    from scipy.special import ndtri

    return ndtri(shares)
