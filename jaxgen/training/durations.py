"""Lengths of time in a run: steps, tokens, tokens for each parameter, or a share of the run."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from jaxgen.domains import Domain
from jaxgen.errors import ConfigError

DurationLike = int | str

_FORMS = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s*(steps?|tokens?|x|%)?\s*")


@dataclasses.dataclass(frozen=True)
class Duration:
    """An amount and its unit."""

    amount: float
    unit: Literal["steps", "tokens", "tokens_per_parameter", "percent"]

    def steps(
        self,
        *,
        steps_for_tokens: Callable[[float], int],
        active_parameters: int,
        total_steps: int | None = None,
    ) -> int:
        """Returns the duration in whole steps, rounded up.

        Args:
          steps_for_tokens: the fewest steps that see so many tokens.
          active_parameters: parameters that one token uses, embeddings included; "20x" is 20
            tokens for each of them.
          total_steps: the run's length, which a percentage is of.

        Raises:
          ConfigError: a percentage where nothing is known to take it of.
        """
        if self.unit == "steps":
            return math.ceil(self.amount)
        if self.unit == "percent":
            if total_steps is None:
                raise ConfigError("the length of a run cannot be a percentage of itself.")
            return math.ceil(self.amount / 100 * total_steps)
        tokens = self.amount * (active_parameters if self.unit != "tokens" else 1)
        return steps_for_tokens(tokens)


@dataclasses.dataclass(frozen=True)
class DurationDomain(Domain):
    """A domain of durations; its upper end bounds percentages alone.

    Attributes:
      of_run: whether a percentage of the run is a duration of this domain.
    """

    of_run: bool = True

    def admits(self, value: Any) -> bool:
        """Returns whether the value is a duration of the domain."""
        try:
            duration = parse_duration(value)
        except ConfigError:
            return False
        if duration.unit == "percent":
            return self.of_run and super().admits(duration.amount)
        return Domain(self.low, ends=self.ends).admits(duration.amount)

    def __str__(self) -> str:
        forms = "200 or '200 steps', '3e6 tokens' or '20x' (tokens for each active parameter)"
        amount = ("of " if self.ends[0] == "[" else "") + str(Domain(self.low, ends=self.ends))
        most = f", at most {self.high}%" if self.high < math.inf else ""
        return f"a duration {amount}{most}: {forms}" + (", or '5%' (of the run)" * self.of_run)


PositiveDuration = Annotated[DurationLike, DurationDomain(0, ends="(]")]
PartOfRun = Annotated[DurationLike, DurationDomain(0, 100)]


def parse_duration(value: DurationLike) -> Duration:
    """Reads 200, "200 steps", "3e6 tokens", "20x" (tokens a parameter) or "5%" (of the run).

    Raises:
      ConfigError: anything else.
    """
    match = _FORMS.fullmatch(str(value))
    if isinstance(value, bool) or match is None:
        raise ConfigError(
            f"{value!r} is not a duration; write 200 or '200 steps', '3e6 tokens', "
            "'20x' (tokens for each active parameter) or '5%' (of the run)."
        )
    amount = float(match.group(1).replace("_", ""))
    unit = (match.group(2) or "steps").removesuffix("s")
    units = {"step": "steps", "token": "tokens", "x": "tokens_per_parameter", "%": "percent"}
    return Duration(amount, units[unit])  # pyright: ignore[reportArgumentType]
