"""Early stopping: runs of a sweep whose loss is hopeless end before their last step."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxgen.domains import NonNegativeFloat, NonNegativeInt, check_domains
from jaxgen.errors import EarlyStoppingError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory, read_metrics


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The rule by which runs stop early.

    Attributes:
      not_finite: whether a run stops early when a loss or gradient is not finite; without it, the
        run counts as failed.
      margin: by how much, in nats/token, a training loss may exceed the best loss of a run of
        the same rung at the same tokens; None: by any amount.
      after_tokens: how many tokens a run sees before losses are compared.
    """

    not_finite: bool = True
    margin: NonNegativeFloat | None = None
    after_tokens: NonNegativeInt = 0

    def __post_init__(self):
        check_domains(self, "EarlyStopping")


def comparable_runs(runs: Sequence[RunConfig], run: RunConfig) -> list[RunConfig]:
    """Returns the other runs of the same model, mixture and length, whose losses compare."""
    alike = (run.model, run.mixture, run.train.length)
    return [
        other
        for other in runs
        if other.name != run.name and (other.model, other.mixture, other.train.length) == alike
    ]


class EarlyStoppingTracker:
    """A tracker that ends the training of a run whose loss is too high."""

    def __init__(self, rule: EarlyStopping, peers: Sequence[RunDirectory]):
        self._rule = rule
        self._peers = peers

    def log(self, row: dict[str, Any]) -> None:
        """Compares a row of metrics with those of the peers.

        Raises:
          EarlyStoppingError: the loss is too high.
        """
        margin, loss, tokens = self._rule.margin, row.get("loss"), row["tokens"]
        if margin is None or loss is None or tokens < self._rule.after_tokens:
            return
        found = [(other, peer) for peer in self._peers if (other := loss_at(peer, tokens))]
        if not found:
            return
        best, peer = min(found, key=lambda pair: pair[0])
        if loss > best + margin:
            raise EarlyStoppingError(
                f"stopped early at step {row['step']}: its loss {loss:.4f} after {tokens:,} tokens "
                f"is more than {margin:g} above the {best:.4f} of {peer.path.name}."
            )

    def close(self) -> None:
        """Does nothing: no file is open."""


def loss_at(directory: RunDirectory, tokens: int) -> float | None:
    """Returns a run's loss at its last row up to so many tokens; None before it got so far."""
    rows = [
        row
        for row in read_metrics(directory.metrics_file)
        if row.get("loss") is not None and "tokens" in row
    ]
    if not rows or rows[-1]["tokens"] < tokens:
        return None
    place = bisect.bisect_right([row["tokens"] for row in rows], tokens)
    return rows[place - 1]["loss"] if place else None
