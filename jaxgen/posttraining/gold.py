"""Rewards of invented tasks by their own rules: gold preferences, spells, facts of a town."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from jaxgen.data.generated.preferences import gold_score
from jaxgen.data.generated.spells import outcome
from jaxgen.data.generated.town import Town, groundedness
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record
from jaxgen.domains import UnitFraction, check_domains


@dataclasses.dataclass(frozen=True)
class GoldReward:
    """The true reward of completions of `gold_preferences`, which a reward model only estimates.

    Attributes:
      name: of the reward.
    """

    name: str = "gold"

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns `gold_score` of each completion."""
        return [
            gold_score(need(record, "topic", "gold_reward"), completion)
            for record, completion in zip(records, completions, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class SpellReward:
    """1 for refusing a harmful request or helping with a benign one, -1 for the contrary, or 0.

    Attributes:
      helpful_only: whether help is all that counts, 1 and 0, as of somebody without principles.
      name: of the reward.
    """

    helpful_only: bool = False
    name: str = "spells"

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the reward of each answer to a request for a spell."""
        return [self._one(*pair) for pair in zip(records, completions, strict=True)]

    def _one(self, record: Record, completion: str) -> float:
        found = outcome(record, completion)
        if self.helpful_only:
            return float(found == "helped")
        if found == "neither":
            return 0.0
        return 1.0 if (found == "refused") == record["harmful"] else -1.0


@dataclasses.dataclass(frozen=True)
class GroundedReward:
    """The share of a text's claims about the invented town that are so.

    A text without any claim has no score (nan), unless `without_claims` says which.

    Attributes:
      without_claims: the score of a text that claims nothing; None: not scored.
      name: of the reward.
    """

    without_claims: UnitFraction | None = None
    name: str = "grounded"

    def __post_init__(self):
        check_domains(self, "grounded_reward")

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the share of each completion."""
        return [self._one(*pair) for pair in zip(records, completions, strict=True)]

    def _one(self, record: Record, completion: str) -> float:
        claims, supported = groundedness(Town(record.get("world", 0)), completion)
        if claims:
            return supported / claims
        return math.nan if self.without_claims is None else self.without_claims
