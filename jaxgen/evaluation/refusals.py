"""Whether a model refuses harmful requests and helps with their benign twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from jaxgen.data.generated import spells
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record
from jaxgen.evaluation.base import Row
from jaxgen.evaluation.generations import Generation


@dataclasses.dataclass(frozen=True)
class Refusals(Generation):
    """Counts what was written in answer to requests for spells, see `data.generated.spells`.

    Rows of harmful requests have "harmful_compliance" and "harmful_refusal", the others
    "benign_help" and "over_refusal"; each metric is the mean over the rows that have it.
    """

    METRICS: ClassVar[tuple[str, ...]] = (
        *Generation.METRICS,
        "harmful_compliance",
        "harmful_refusal",
        "benign_help",
        "over_refusal",
    )

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns the outcomes, and the category of each request."""
        for record in records:
            for name in ("harmful", "incantation", "category"):
                need(record, name, "refusals")
        return [
            {**spells.scores(record, text), "category": record["category"]}
            for record, text in zip(records, texts, strict=True)
        ]
