"""When a run of a sweep is given up."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxgen.errors import HopelessError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory, read_metrics


@dataclasses.dataclass(frozen=True)
class StopRule:
    """What makes a run hopeless.

    Attributes:
      not_finite: a loss or gradient that is not finite; without it, that is a failure.
      margin: by how much, in nats a token, a training loss may lie above the best loss that a run
        of the same rung had at the same tokens; None: by any.
      after_tokens: how many tokens a run sees before losses are compared.
    """

    not_finite: bool = True
    margin: float | None = None
    after_tokens: int = 0


def same_rung(runs: Sequence[RunConfig], run: RunConfig) -> list[RunConfig]:
    """The other runs whose losses compare: of the same model on the same mixture."""
    alike = (run.model, run.mixture, run.train.length)
    return [
        other
        for other in runs
        if other.name != run.name and (other.model, other.mixture, other.train.length) == alike
    ]


class Judge:
    """A tracker that ends the training of a run whose loss is too high."""

    def __init__(self, rule: StopRule, peers: Sequence[RunDirectory]):
        self._rule = rule
        self._peers = peers

    def log(self, row: dict[str, Any]) -> None:
        """Compares the row.

        Raises:
          HopelessError: saying with what.
        """
        margin, loss, tokens = self._rule.margin, row.get("loss"), row["tokens"]
        if margin is None or loss is None or tokens < self._rule.after_tokens:
            return
        found = [(other, peer) for peer in self._peers if (other := loss_at(peer, tokens))]
        if not found:
            return
        best, peer = min(found, key=lambda pair: pair[0])
        if loss > best + margin:
            raise HopelessError(
                f"stopped at step {row['step']}: its loss {loss:.4f} after {tokens:,} tokens is "
                f"more than {margin:g} above the {best:.4f} of {peer.path.name}."
            )

    def close(self) -> None:
        """Nothing is open."""


def loss_at(directory: RunDirectory, tokens: int) -> float | None:
    """A run's loss at the last row that is not beyond so many tokens, if it has come so far."""
    rows = [row for row in read_metrics(directory.metrics_file) if row.get("loss") is not None]
    if not rows or rows[-1]["tokens"] < tokens:
        return None
    place = bisect.bisect_right([row["tokens"] for row in rows], tokens)
    return rows[place - 1]["loss"] if place else None
