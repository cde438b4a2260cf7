"""Scoring of what a model says of a picture, a clip or a sound: attributes, and errors of words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import Row
from jaxgen.evaluation.generations import Generation
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.metrics import edits

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclasses.dataclass(frozen=True)
class Descriptions(Generation):
    """Compares a description with what is there, attribute by attribute, by the task's source.

    The source has a method `score_text(record, text)`, which returns 1 or 0 for each attribute and
    for "all" of them; `Sprites` and `MovingSprites` have one.
    """

    METRICS: ClassVar[tuple[str, ...]] = (
        *Generation.METRICS, "every_attribute", "count", "colour", "shape", "position", "binding",
        "direction", "speed", "base", "tone",
    )  # fmt: skip

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns the rows of `Generation.score` with a column for each attribute.

        Raises:
          DataError: if the source cannot compare a text, or a prompt leaves no room.
        """
        read = getattr(task.source, "score_text", None)
        if read is None:
            raise DataError(
                f"task {task.name}: {type(task.source).__name__} has no method score_text(record, "
                "text) that compares a description; score by @generation(), or use a source that "
                "has one."
            )
        rows = super().score(scorer, task, records)
        for row, record in zip(rows, records, strict=True):
            scores = read(record, row["said"])
            row["every_attribute"] = scores.pop("all")
            row.update(scores)
        return rows


@dataclasses.dataclass(frozen=True)
class Transcripts(Generation):
    """Scores transcripts by their word and character error rates.

    The rates are of all instances together, as is the custom: insertions, deletions and
    substitutions over the words of the references, which can be above 1. Words are compared in
    lower case and without punctuation; characters as those words with a space between them.

    Attributes:
      reference: the field of a record that has its transcript.
    """

    reference: str = "transcript"

    METRICS: ClassVar[tuple[str, ...]] = (*Generation.METRICS,)
    RATIOS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "word_error_rate": ("word_errors", "words"),
        "character_error_rate": ("character_errors", "characters"),
    }

    def __post_init__(self):
        super().__post_init__()
        if not self.reference:
            raise ConfigError(
                "transcripts.reference is empty; name the field of the transcripts, such as "
                "'transcript'."
            )

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns the errors of each transcript, and what they are counted over."""
        return [
            transcript_errors(str(need(record, self.reference, "transcripts")), text)
            for record, text in zip(records, texts, strict=True)
        ]


def transcript_errors(reference: str, text: str) -> dict[str, int]:
    """Returns "word_errors" of "words" of the reference, and "character_errors" likewise."""
    expected, found = (WORD.findall(one.lower()) for one in (reference, text))
    spelled, written = " ".join(expected), " ".join(found)
    return {
        "word_errors": edits(expected, found),
        "words": len(expected),
        "character_errors": edits(spelled, written),
        "characters": len(spelled),
    }
