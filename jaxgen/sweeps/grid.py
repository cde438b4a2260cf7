"""Grids and ladders: the runs of a sweep as changes to a base, combined by product and zip.

seeds = axis("train.seed", [0, 1])
rates = axis("train.optimizer.weight_decay", {"low": 0.01, "high": 0.1}, name="decay")
runs = grid(base, product(rates, seeds))    # decay_low-seed_0, decay_low-seed_1, ...
rungs = [Change("large", {"model.num_layers": 4}), Change("small", {"model.num_layers": 2})]
runs = ladder(base, rungs, seeds=[0, 1])    # large-seed0, small-seed0, large-seed1, ...
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Change:
    """A change that makes a run from a base: a rung of a ladder, or one point of an axis.

    Attributes:
      label: its part of the run's name.
      values: new values of fields by their paths, such as "train.seed".
    """

    label: str
    values: Mapping[str, Any]


def axis(
    path: str, values: Iterable[Any] | Mapping[str, Any], name: str | None = None
) -> list[Change]:
    """Returns a field at several values.

    Args:
      path: of the field in a RunConfig, such as "model.num_layers" or "mixture".
      values: of the field; with labels if they are a mapping.
      name: the beginning of labels; the last word of the path by default, "" for values alone.
    """
    name = path.rpartition(".")[2] if name is None else name
    pairs = values.items() if isinstance(values, Mapping) else ((str(v), v) for v in values)
    return [Change(f"{name}_{label}" if name else label, {path: value}) for label, value in pairs]


def product(*axes: Sequence[Change]) -> list[Change]:
    """Returns every choice with every other; the last axis moves fastest."""
    return [_joined(changes) for changes in itertools.product(*axes)]


def zipped(*axes: Sequence[Change]) -> list[Change]:
    """Returns the first changes of all axes together, then the second ones, and so on.

    Raises:
      ConfigError: if they are of different lengths.
    """
    lengths = [len(changes) for changes in axes]
    if len(set(lengths)) > 1:
        raise ConfigError(f"axes of lengths {lengths} cannot be zipped; make them equally long.")
    return [_joined(changes) for changes in zip(*axes, strict=True)]


def grid(base: RunConfig | Iterable[RunConfig], changes: Sequence[Change]) -> list[RunConfig]:
    """Returns a run for every change of one base, or of several, whose names then come first.

    Raises:
      ConfigError: for a field that is not there or a value that it refuses.
    """
    if isinstance(base, RunConfig):
        return [changed(base, change, change.label) for change in changes]
    return [
        changed(one, change, f"{one.name}-{change.label}") for one in base for change in changes
    ]


def ladder(base: RunConfig, rungs: Sequence[Change], seeds: Iterable[int]) -> list[RunConfig]:
    """Returns every rung with every seed, named RUNG-seedN, in the order of seeds, then of rungs.

    Args:
      base: what all rungs share.
      rungs: the sizes.
      seeds: of parameters and data order.
    """
    return [
        changed(base, _joined([rung, Change("", {"train.seed": seed})]), f"{rung.label}-seed{seed}")
        for seed in seeds
        for rung in rungs
    ]


def changed(config: RunConfig, change: Change, name: str) -> RunConfig:
    """Returns a configuration with a change, under another name."""
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
    """Sets fields of one object together, because each alone may be refused."""
    known = [field.name for field in dataclasses.fields(whole)] if _has_fields(whole) else []
    values = {}
    for name, inner in nested.items():
        if name not in known:
            raise ConfigError(
                f"{path + name!r} is not a field of a run's configuration; the fields of "
                f"{path.rstrip('.') or 'a run'} are {', '.join(known) or 'none'}."
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
