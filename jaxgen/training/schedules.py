"""Learning rates as functions of the step; warm-ups are linear from zero.

A warm-up's first step has the rate 0: step s, counted from 0, has peak * s / warmup, as in optax.
So the first batch enters the optimiser's moments, and parameters move from the second on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax.numpy as jnp
import optax

from jaxgen.domains import NonNegativeFloat, PositiveFloat, UnitFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.training.durations import DurationLike, PartOfRun, PositiveDuration, parse_duration

Steps = Callable[[DurationLike], int]
"""Turns a duration, such as "5%" or "3e6 tokens", into steps of the run at hand."""


class Schedule(Protocol):
    """Settings that build the learning rate as a function of the step."""

    def build(self, total_steps: int, steps: Steps) -> optax.Schedule:
        """Returns the schedule for a run of `total_steps`; `steps` turns durations into steps."""
        ...


@dataclasses.dataclass(frozen=True)
class WarmupCosine:
    """The rate warms up, then falls by half a cosine to a fraction of the peak, where it stays.

    Attributes:
      peak: the largest rate.
      warmup: how long it takes to get there.
      until: when the cosine ends, from the run's beginning; it may be after the run's end.
      final_fraction: of the peak.
    """

    peak: PositiveFloat = 1e-3
    warmup: PartOfRun = "5%"
    until: PositiveDuration = "100%"
    final_fraction: UnitFraction = 0.1

    def __post_init__(self):
        check_domains(self, "warmup_cosine")

    def build(self, total_steps: int, steps: Steps) -> optax.Schedule:
        """Returns the schedule for a run of `total_steps`."""
        del total_steps
        warmup, until = steps(self.warmup), steps(self.until)
        if warmup > until:
            raise ConfigError(
                f"warmup_cosine.warmup={self.warmup!r} is {warmup} steps, and "
                f"warmup_cosine.until={self.until!r} is {until}; shorten the warm-up, or lengthen "
                "the cosine or the run."
            )
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=self.peak,
            warmup_steps=warmup,
            decay_steps=max(until, warmup + 1),
            end_value=self.final_fraction * self.peak,
        )


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay:
    """The rate warms up, stays at its peak, then decays (WSD, MiniCPM, 2404.06395).

    The decay is linear, over the end of the run, to `final_fraction` of the peak.
    """

    peak: PositiveFloat = 1e-3
    warmup: PartOfRun = "5%"
    decay: PartOfRun = "20%"
    final_fraction: UnitFraction = 0.0

    def __post_init__(self):
        check_domains(self, "warmup_stable_decay")
        parts = parse_duration(self.warmup), parse_duration(self.decay)
        if sum(part.amount for part in parts if part.unit == "percent") > 100:
            raise ConfigError(
                f"warmup_stable_decay.warmup={self.warmup!r} and warmup_stable_decay.decay="
                f"{self.decay!r} are more than the run; shorten them."
            )

    def build(self, total_steps: int, steps: Steps) -> optax.Schedule:
        """Returns the schedule for a run of `total_steps`."""
        warmup, decay = steps(self.warmup), steps(self.decay)
        if warmup + decay > total_steps + 1:  # both are rounded up
            raise ConfigError(
                f"warmup_stable_decay.warmup={self.warmup!r} and warmup_stable_decay.decay="
                f"{self.decay!r} are {warmup} + {decay} steps of a run of {total_steps}; shorten "
                "them, or lengthen the run."
            )
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, self.peak, warmup),
                optax.constant_schedule(self.peak),
                optax.linear_schedule(self.peak, self.final_fraction * self.peak, decay),
            ],
            boundaries=[warmup, max(warmup, total_steps - decay)],
        )


@dataclasses.dataclass(frozen=True)
class InverseSquareRoot:
    """The rate warms up, then is peak * sqrt(warmup / step) (1706.03762, 5.3; peak is a setting).

    Attributes:
      peak: the largest rate.
      warmup: how long it takes to get there.
      flat: whether the rate is at its peak during the warm-up too (T5, 1910.10683, 3.1.2).
    """

    peak: PositiveFloat = 1e-3
    warmup: PartOfRun = "5%"
    flat: bool = False

    def __post_init__(self):
        check_domains(self, "inverse_square_root")

    def build(self, total_steps: int, steps: Steps) -> optax.Schedule:
        """Returns the schedule, which depends on the run's length only through the warm-up."""
        del total_steps
        warmup = max(1, steps(self.warmup))

        def schedule(count):
            step = jnp.asarray(count, jnp.float32)
            rising = 1.0 if self.flat else step / warmup
            return self.peak * jnp.minimum(rising, jnp.sqrt(warmup / jnp.maximum(step, 1)))

        return schedule


@dataclasses.dataclass(frozen=True)
class RatePhase:
    """A phase leads the rate to a value, from where the phase before has left it (0 at first).

    Attributes:
      rate: at its end.
      until: where it ends, from the run's beginning.
      shape: "linear", half a "cosine", or "constant": `rate` from its beginning.
      cut: where the next phase takes over, before this one has reached its end; None: at its end.
    """

    rate: NonNegativeFloat
    until: PositiveDuration = "100%"
    shape: Literal["linear", "cosine", "constant"] = "linear"
    cut: PositiveDuration | None = None

    def __post_init__(self):
        check_domains(self, "rate_phase")

    def at(self, share: Any, before: Any) -> Any:
        """Returns the rate at a share of the phase, which begins with the rate `before`."""
        if self.shape == "constant":
            return self.rate
        if self.shape == "cosine":
            share = (1 - jnp.cos(jnp.pi * share)) / 2
        return before + (self.rate - before) * share


@dataclasses.dataclass(frozen=True)
class RatePhases:
    """The rate goes through phases, such as DeepSeek-V3's five; after the last it stays."""

    phases: tuple[RatePhase, ...]

    def __post_init__(self):
        if not self.phases:
            raise ConfigError("rate_phases.phases is empty; it needs one: (@rate_phase(),).")

    def build(self, total_steps: int, steps: Steps) -> optax.Schedule:
        """Returns the schedule for a run of `total_steps`."""
        del total_steps
        parts, begin = [], 0
        for phase in self.phases:
            end = steps(phase.until)
            cut = end if phase.cut is None else steps(phase.cut)
            if not begin <= cut <= end:
                raise ConfigError(
                    f"rate_phase.until={phase.until!r}, cut={phase.cut!r} is from step {begin} to "
                    f"step {cut} of {end}; each phase ends after the one before it, and is cut "
                    "before its end."
                )
            parts.append((phase, begin, end))
            begin = cut

        def schedule(count):
            step, rate = jnp.asarray(count, jnp.float32), jnp.float32(0.0)
            for (phase, begin, end), following in zip(parts, [*parts[1:], None], strict=True):
                # A phase that has not begun leaves the rate as it is, one that is over its end's.
                here = step if following is None else jnp.minimum(step, following[1])
                share = jnp.clip((here - begin) / max(1, end - begin), 0.0, 1.0)
                rate = jnp.where(step >= begin, phase.at(share, rate), rate)
            return rate

        return schedule
