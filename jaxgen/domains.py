"""The domains of settings: which numbers make sense for a field, stated in the field's type.

    @dataclasses.dataclass(frozen=True)
    class Momentum:
        beta: Annotated[float, Domain(0, 1, "[)")] = 0.9
        clip_norm: PositiveFloat | None = None

        def __post_init__(self):
            check_domains(self, "momentum")

Whoever reads the types alone, such as gin's, does not see the domains.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import numbers
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Domain:
    """An interval of finite numbers.

    Attributes:
      low: the lower end.
      high: the upper end.
      ends: "[" or "(", then "]" or ")": whether the ends belong to it, as mathematicians write it.
      besides: one more number that belongs to it.
    """

    low: float
    high: float = math.inf
    ends: str = "[]"
    besides: int | None = None

    def admits(self, value: Any) -> bool:
        """Returns whether the value is in the domain; what is no number is the type's matter."""
        if not _is_number(value) or value == self.besides:
            return True
        is_above = value >= self.low if self.ends[0] == "[" else value > self.low
        is_below = value <= self.high if self.ends[1] == "]" else value < self.high
        return is_above and is_below and -math.inf < value < math.inf

    def rule(self, value: Any) -> str:
        """Returns what a value that is not admitted must be."""
        is_endless = isinstance(value, float) and not math.isfinite(value)
        return f"must be {self}" + (", and finite" if is_endless else "")

    def __str__(self) -> str:
        if self.high == math.inf:
            text = f"{self.low} or more" if self.ends[0] == "[" else f"above {self.low}"
        else:
            text = f"in {self.ends[0]}{self.low}, {self.high}{self.ends[1]}"
        return text if self.besides is None else f"{text}, or {self.besides}"


LARGEST = 2**53
"""The largest whole number that flags take: beyond it a count of anything is a mistake."""
MOST_PROCESSES = 1024
"""The most processes of one host that a setting may ask for."""
PositiveInt = Annotated[int, Domain(1)]
NonNegativeInt = Annotated[int, Domain(0)]
Seed = Annotated[int, Domain(0, 2**32 - 1)]
PositiveFloat = Annotated[float, Domain(0, ends="(]")]
NonNegativeFloat = Annotated[float, Domain(0)]
UnitFraction = Annotated[float, Domain(0, 1)]
ProperFraction = Annotated[float, Domain(0, 1, "[)")]
PositiveFraction = Annotated[float, Domain(0, 1, "(]")]
InnerFraction = Annotated[float, Domain(0, 1, "()")]


def check_domains(config: Any, name: str) -> None:
    """Refuses a dataclass with a number outside its field's domain.

    Args:
      config: the dataclass; of a container, all numbers in it must be in the domain.
      name: what messages call it.

    Raises:
      ConfigError: naming the field, its value and the domain.
    """
    for field, (domain, is_optional) in domains_of(type(config)).items():
        value = getattr(config, field)
        for one in _leaves(value):
            if not (one is None and is_optional) and not domain.admits(one):
                subject = "" if one is value else f": {one!r}"
                otherwise = ", or None" if is_optional else ""
                rule = domain.rule(one)
                raise ConfigError(f"{name}.{field}={value!r}{subject} {rule}{otherwise}.")


def number(hint: Any) -> Callable[[str], int | float]:
    """Returns what reads a number of a type such as PositiveInt, for argparse."""
    kind, domain = typing.get_args(hint)

    def read(text: str) -> int | float:
        value = kind(text)
        if not domain.admits(value):
            raise argparse.ArgumentTypeError(f"{text} {domain.rule(value)}")
        if kind is int and value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text} must be at most {LARGEST}")
        return value

    read.__name__ = kind.__name__  # for argparse's own "invalid int value"
    return read


@functools.cache
def domains_of(kind: type) -> Mapping[str, tuple[Domain, bool]]:
    """Returns the domain of each field of a dataclass that states one; whether it may be None."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        field.name: (domain, type(None) in typing.get_args(hints[field.name]))
        for field in dataclasses.fields(kind)
        for domain in domains_in(hints[field.name])
    }


def domains_in(hint: Any) -> Iterator[Domain]:
    """Yields the domains that are stated in a type hint."""
    if typing.get_origin(hint) is Annotated:
        yield from (item for item in hint.__metadata__ if isinstance(item, Domain))
    for argument in typing.get_args(hint):
        yield from domains_in(argument)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
