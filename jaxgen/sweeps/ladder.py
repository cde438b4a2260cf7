"""A ladder: one configuration at several sizes and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxgen.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Rung:
    """A size.

    Attributes:
      name: of the rung; its runs are NAME-seedN.
      model: the fields of the model that differ from the base's.
      train: the fields of training that differ from the base's.
    """

    name: str
    model: Mapping[str, Any]
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def climb(base: RunConfig, rungs: Sequence[Rung], seeds: Iterable[int]) -> list[RunConfig]:
    """Every rung with every seed, in the order of seeds and then of rungs.

    Args:
      base: what all rungs share.
      rungs: the sizes.
      seeds: of parameters and data order.
    """
    return [
        dataclasses.replace(
            base,
            name=f"{rung.name}-seed{seed}",
            model=dataclasses.replace(base.model, **rung.model),
            train=dataclasses.replace(base.train, **(dict(rung.train) | {"seed": seed})),
        )
        for seed in seeds
        for rung in rungs
    ]
