"""From sums on the device to the rows of metrics.jsonl."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.training.step import StepMetrics


@dataclasses.dataclass
class Window:
    """Sums over the steps since the last row, in float64 so that their order hardly matters."""

    steps: int = 0
    sums: Any = None

    def add(self, metrics: StepMetrics) -> None:
        """Adds one step's figures (host arrays)."""
        figures = _present(dataclasses.asdict(metrics))
        figures = jax.tree.map(lambda x: np.asarray(x, np.float64), figures)
        self.sums = figures if self.sums is None else jax.tree.map(np.add, self.sums, figures)
        self.steps += 1

    def to_record(self) -> dict[str, Any]:
        """Plain lists, for a checkpoint taken in mid-window."""
        sums = None if self.sums is None else jax.tree.map(lambda x: x.tolist(), self.sums)
        return {"steps": self.steps, "sums": sums}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Window:
        """The inverse of `to_record`."""

        def restore(value):
            if isinstance(value, dict):
                return {name: restore(item) for name, item in _present(value).items()}
            return None if value is None else np.asarray(value, np.float64)

        return cls(record["steps"], restore(record["sums"]))

    def row(self, task_names: Sequence[str]) -> dict[str, Any]:
        """Means over the window.

        Losses and accuracies are means over the tokens that are learnt (loss weights), norms are
        means over steps, shares are of the tokens that are not padding. The noise scale is in rows
        (of train.length tokens), None where the window's mean of |G|^2 is not positive.
        """
        sums, steps = self.sums, self.steps
        weight, nll, correct, tokens = np.asarray(sums["per_task"]).T
        row = {
            "loss": _ratio(nll.sum(), weight.sum()),
            "accuracy": _ratio(correct.sum(), weight.sum()),
            "objective": float(sums["loss"] / steps),
            "gradient_norm": float(sums["gradient_norm"] / steps),
            "parameter_norm": float(sums["parameter_norm"] / steps),
        }
        for index, name in enumerate(task_names):
            row[f"loss/{name}"] = _ratio(nll[index], weight[index])
            row[f"accuracy/{name}"] = _ratio(correct[index], weight[index])
            row[f"token_share/{name}"] = _ratio(tokens[index], tokens.sum())
        if (noise := sums.get("noise")) is not None:
            square, variance = noise["squared_gradient"], noise["variance"]
            row["noise_scale"] = float(variance / square) if square > 0 else None
            row["noise_scale/squared_gradient"] = float(square / steps)
            row["noise_scale/variance"] = float(variance / steps)
        if (router := sums.get("router")) is not None:
            row["router/load_balance_loss"] = float(np.mean(router["load_balance_loss"]) / steps)
            row["router/z_loss"] = float(np.mean(router["z_loss"]) / steps)
            row["router/dropped"] = float(np.mean(router["dropped"]) / steps)
            row["router/load"] = (np.asarray(router["load"]) / steps).tolist()
        return row


def _present(figures: dict[str, Any]) -> dict[str, Any]:
    """Those that are measured: a record of before a figure came is then like one without it."""
    return {name: value for name, value in figures.items() if value is not None}


def _ratio(total: float, count: float) -> float | None:
    return float(total / count) if count else None
