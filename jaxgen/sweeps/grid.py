"""Grids: what differs between the runs of a sweep, put together by product, zip and chain.

seeds = axis("train.seed", [0, 1])
rates = axis("train.optimizer.weight_decay", {"low": 0.01, "high": 0.1}, name="decay")
runs = grid(base, product(rates, seeds))    # decay_low-seed_0, decay_low-seed_1, ...
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.sweeps.ladder import Rung


@dataclasses.dataclass(frozen=True)
class Change:
    """What makes a run differ from its base.

    Attributes:
      label: its part of the run's name.
      values: by the path of a field, such as "train.seed", its value.
    """

    label: str
    values: Mapping[str, Any]


def axis(
    path: str, values: Iterable[Any] | Mapping[str, Any], name: str | None = None
) -> list[Change]:
    """A field at several values.

    Args:
      path: of the field in a RunConfig, such as "model.num_layers" or "mixture".
      values: of the field; with labels if they are a mapping.
      name: what labels begin with; the last word of the path by default, "" for the values alone.
    """
    name = path.rpartition(".")[2] if name is None else name
    pairs = values.items() if isinstance(values, Mapping) else ((str(v), v) for v in values)
    return [Change(f"{name}_{label}" if name else label, {path: value}) for label, value in pairs]


def sizes(rungs: Iterable[Rung]) -> list[Change]:
    """The rungs of a ladder."""
    return [
        Change(
            rung.name,
            {f"model.{field}": value for field, value in rung.model.items()}
            | {f"train.{field}": value for field, value in rung.train.items()},
        )
        for rung in rungs
    ]


def product(*axes: Sequence[Change]) -> list[Change]:
    """Every choice with every other; the last axis moves fastest."""
    return [_joined(changes) for changes in itertools.product(*axes)]


def zipped(*axes: Sequence[Change]) -> list[Change]:
    """The first of each, the second of each, and so on.

    Raises:
      ConfigError: if they are of different lengths.
    """
    lengths = [len(changes) for changes in axes]
    if len(set(lengths)) > 1:
        raise ConfigError(f"axes of lengths {lengths} cannot be zipped; make them equally long.")
    return [_joined(changes) for changes in zip(*axes, strict=True)]


def chain(*axes: Sequence[Change]) -> list[Change]:
    """One after the other."""
    return list(itertools.chain(*axes))


def grid(base: RunConfig | Iterable[RunConfig], changes: Sequence[Change]) -> list[RunConfig]:
    """Every change of one configuration, or of each of several, whose names then come first.

    Raises:
      ConfigError: for a field that is not there or a value that it refuses.
    """
    if isinstance(base, RunConfig):
        return [changed(base, change, change.label) for change in changes]
    return [
        changed(one, change, f"{one.name}-{change.label}") for one in base for change in changes
    ]


def changed(config: RunConfig, change: Change, name: str) -> RunConfig:
    """A configuration with a change, under another name."""
    nested: dict[str, Any] = {}
    for path, value in change.values.items():
        *parents, last = path.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"the change {change.label!r} sets {path!r} twice.")
        inner[last] = _Value(value)
    return dataclasses.replace(_replaced(config, nested, ""), name=name)


@dataclasses.dataclass(frozen=True)
class _Value:
    value: Any


def _replaced(whole: Any, nested: Mapping[str, Any], path: str) -> Any:
    """Fields of one object are set together: each alone may be refused."""
    known = [field.name for field in dataclasses.fields(whole)] if _has_fields(whole) else []
    values = {}
    for name, inner in nested.items():
        if name not in known:
            raise ConfigError(
                f"{path + name!r} is no field of a run's configuration; {path.rstrip('.') or 'it'} "
                f"has {', '.join(known) or 'none'}."
            )
        values[name] = (
            inner.value
            if isinstance(inner, _Value)
            else _replaced(getattr(whole, name), inner, f"{path}{name}.")
        )
    return dataclasses.replace(whole, **values)


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _joined(changes: Iterable[Change]) -> Change:
    values: dict[str, Any] = {}
    labels = []
    for change in changes:
        twice = values.keys() & change.values.keys()
        if twice:
            raise ConfigError(f"{sorted(twice)} are set by more than one axis; leave one out.")
        values |= change.values
        labels.append(change.label)
    return Change("-".join(labels), values)
