"""How much of a picture and how much noise there is at each time.

At a time t, x_t = alpha(t) x + sigma(t) n, with n a standard normal. A schedule's functions take
numpy arrays of float64, for samplers and closed forms, and traced arrays, for training. Your own is
a frozen dataclass with the members of `Schedule`, bound in gin as `corruption.schedule`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import Domain, PositiveFloat, check_domains
from jaxgen.errors import ConfigError

Spacing = Literal["leading", "trailing", "linspace", "karras"]
"""How a sampler's times lie: see `Schedule.times`."""
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
        """Returns times from 1 on, evenly before they are shifted; 0 is where they lead.

        With "linspace" they end at the first of 1,000 steps of training, which is shifted already,
        as the released pipeline of Stable Diffusion 3 has them.
        """
        if spacing == "linspace":
            return self._shifted(np.linspace(1, self._shifted(1e-3), steps))
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
