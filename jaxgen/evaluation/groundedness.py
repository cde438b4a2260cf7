"""Whether what a model says of an invented town is so, claim by claim."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jaxgen.data.generated.town import Town, groundedness
from jaxgen.data.protocols import Record
from jaxgen.evaluation.base import Row
from jaxgen.evaluation.generations import Generation


@dataclasses.dataclass(frozen=True)
class Groundedness(Generation):
    """Counts the claims of answers in `town_dialogues`, and those that the facts support.

    Rows have "claims" and "supported"; `groundedness` is their ratio over all answers, as LaMDA
    counts it (2201.08239): of what is said about the world, how much is so.
    """

    METRICS: ClassVar[tuple[str, ...]] = (*Generation.METRICS, "claims")
    RATIOS: ClassVar[dict[str, tuple[str, str]]] = {"groundedness": ("supported", "claims")}

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns the claims of each answer, and how many are so."""
        found = [
            groundedness(Town(record.get("world", 0)), text)
            for record, text in zip(records, texts, strict=True)
        ]
        return [{"claims": claims, "supported": supported} for claims, supported in found]
