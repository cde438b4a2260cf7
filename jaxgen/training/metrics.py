"""From sums on the device to the rows of metrics.jsonl."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.objectives.base import Sum
from jaxgen.training.step import StepMetrics

_TASK_COLUMNS = ("weight", "loss", "accuracy", "token_share")
"""Of `per_task` in the records of before metrics had names."""


@dataclasses.dataclass
class WindowSums:
    """Sums over the steps since the last row, in float64 so that their order hardly matters.

    Attributes:
      steps: that are summed.
      skipped: steps beside them that were not finite.
      sums: the objective's metrics.
      per_step: figures of which there is one a step.
    """

    steps: int = 0
    skipped: int = 0
    sums: dict[str, Sum] = dataclasses.field(default_factory=dict)
    per_step: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, metrics: StepMetrics) -> None:
        """Adds the figures (host arrays) of one step."""
        sums = jax.tree.map(lambda x: np.asarray(x, np.float64), metrics.sums)
        self.sums = sums if not self.sums else jax.tree.map(np.add, self.sums, sums)
        figures = {
            "objective": metrics.objective,
            "gradient_norm": metrics.gradient_norm,
            "parameter_norm": metrics.parameter_norm,
        }
        if metrics.noise is not None:
            figures["noise_scale/squared_gradient"] = metrics.noise.squared_gradient
            figures["noise_scale/variance"] = metrics.noise.variance
        for name, value in figures.items():
            self.per_step[name] = self.per_step.get(name, 0.0) + float(value)
        self.steps += 1

    def to_record(self) -> dict[str, Any]:
        """Returns plain lists, for a checkpoint taken between two rows."""
        sums = {
            name: {
                "total": np.asarray(one.total).tolist(),
                "weight": np.asarray(one.weight).tolist(),
                "labels": list(one.labels),
            }
            for name, one in self.sums.items()
        }
        return {
            "steps": self.steps,
            "skipped": self.skipped,
            "sums": sums,
            "per_step": dict(self.per_step),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], task_names: Sequence[str] = ()) -> WindowSums:
        """Inverts `to_record`; `task_names` are for records without names."""
        skipped = record.get("skipped", 0)
        if record["steps"] == 0:
            return cls(skipped=skipped)
        if "per_step" not in record:
            return cls(record["steps"], 0, *_from_unnamed(record, tuple(task_names)))
        sums = {
            name: Sum(np.asarray(one["total"]), np.asarray(one["weight"]), tuple(one["labels"]))
            for name, one in record["sums"].items()
        }
        return cls(record["steps"], skipped, sums, dict(record["per_step"]))

    def row(self) -> dict[str, Any]:
        """Means over the window.

        Of the objective's metrics each is a mean by its weight (losses and accuracies are means
        over the tokens in the loss); the objective and norms are means over steps. The noise scale
        is in rows (of train.length tokens), None where the window's mean of |G|^2 is not positive.
        """
        row: dict[str, Any] = {}
        for name, one in self.sums.items():
            row |= _means(name, one)
        row |= {name: total / self.steps for name, total in self.per_step.items()}
        if "noise_scale/variance" in row:
            square, variance = row["noise_scale/squared_gradient"], row["noise_scale/variance"]
            row["noise_scale"] = variance / square if square > 0 else None
        if self.skipped:
            row["skipped_updates"] = self.skipped
        return row


def _means(name: str, one: Sum) -> dict[str, Any]:
    total, weight = np.asarray(one.total), np.asarray(one.weight)
    if not one.labels and not weight.ndim:
        return {name: _ratio(total, weight)}
    whole = {name: _ratio(total.sum(), weight.sum())} if weight.ndim else {}
    if not one.labels:
        return whole
    weights = np.broadcast_to(weight, total.shape)
    return whole | {
        f"{name}/{label}": _ratio(part, part_weight)
        for label, part, part_weight in zip(one.labels, total, weights, strict=True)
    }


def _ratio(total: np.ndarray, weight: np.ndarray) -> Any:
    return (total / weight).tolist() if weight else None


def _from_unnamed(
    record: dict[str, Any], task_names: tuple[str, ...]
) -> tuple[dict[str, Sum], dict[str, float]]:
    """Sums and figures of the record of a checkpoint that jaxgen 0.1 wrote between two rows."""
    figures, steps = record["sums"], record["steps"]
    columns = dict(zip(_TASK_COLUMNS, np.asarray(figures["per_task"]).T, strict=True))
    sums = {
        "loss": Sum(columns["loss"], columns["weight"], task_names),
        "accuracy": Sum(columns["accuracy"], columns["weight"], task_names),
        "token_share": Sum(columns["token_share"], columns["token_share"].sum(), task_names),
    }
    per_step = {name: figures[name] for name in ("gradient_norm", "parameter_norm")}
    per_step["objective"] = figures["loss"]
    for name, value in (figures.get("noise") or {}).items():
        per_step[f"noise_scale/{name}"] = value
    # These were means of each step, all of which then weighed the same.
    weight = columns["weight"].sum()
    for name, value in (figures.get("router") or {}).items():
        mean = np.asarray(value) if name == "load" else np.mean(value)
        sums[f"router/{name}"] = Sum(mean / steps * weight, weight)
    return sums, per_step
