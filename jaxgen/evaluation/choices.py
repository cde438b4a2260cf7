"""Multiple choice by likelihood: the choice that the model finds likeliest.

How scores of longer and shorter choices are made comparable is GPT-3's question (2005.14165, 2.4):
by token, by byte, or by what the choice gains from its prompt (pointwise mutual information).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from jaxgen.data.parts import Part, encode_parts
from jaxgen.data.preprocessors import need, need_list
from jaxgen.data.protocols import Record
from jaxgen.data.segments import Segment, example_segment, unended
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import Row, instance_of
from jaxgen.evaluation.likelihood import Scored, Scorer
from jaxgen.evaluation.metrics import bits_per_byte, brier, softmax

Normalisation = Literal["none", "tokens", "bytes", "pmi"]


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
    """Takes the choice of largest score, which is its log-probability after the prompt.

    Attributes:
      normalisation: "none"; "tokens" or "bytes" divide by the choice's size; "pmi" subtracts the
        log-probability after `neutral` in place of the prompt.
      prompt: the record's field that holds the prompt.
      choices: the field that holds the list of choices, spaces before them included.
      label: the field that holds the correct one's index, from 0.
      neutral: the prompt without content, for "pmi".
    """

    normalisation: Normalisation = "bytes"
    prompt: str = "prompt"
    choices: str = "choices"
    label: str = "label"
    neutral: str = "Answer:"

    METRICS: ClassVar[tuple[str, ...]] = (
        "exact_match", "choice_probability", "brier", "log_probability", "bits_per_byte"
    )  # fmt: skip

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record; see `Answers.score`.

        Returns:
          Rows with "task", "instance", "exact_match" (whether the correct choice has the largest
          score), "choice_probability" (its softmax over the scores), "brier", "log_probability"
          (its own, in nats, not normalised), "bits_per_byte" (its own), "confidence" (the
          probability of the choice taken), "chosen" (its index) and "chance".

        Raises:
          DataError: if a record has no choices or no correct one, or is longer than a row.
        """
        asked = [self._asked(task, record) for record in records]
        segments, neutral = [], []
        for prompt, choices, _ in asked:
            segments += [_choice(task, prompt, c, scorer.has_source) for c in choices]
            if self.normalisation == "pmi":
                neutral += [_choice(task, self.neutral, c, scorer.has_source) for c in choices]
        scored, plain = (
            scorer.score(task.name, some, task.codec.pad_id) for some in (segments, neutral)
        )
        rows, place = [], 0
        for number, (record, (_, choices, label)) in enumerate(zip(records, asked, strict=True)):
            part = slice(place, place + len(choices))
            place = part.stop
            scores = self._scores(choices, scored[part], plain[part])
            probabilities = softmax(scores)
            chosen, correct = int(np.argmax(scores)), scored[part][label]
            rows.append(
                {
                    "task": task.name,
                    "instance": instance_of(record, number),
                    "exact_match": int(chosen == label),
                    "choice_probability": float(probabilities[label]),
                    "brier": brier(probabilities, label),
                    "log_probability": correct.total,
                    "bits_per_byte": bits_per_byte(correct.total, choices[label]),
                    "confidence": float(probabilities[chosen]),
                    "chosen": chosen,
                    "chance": 1 / len(choices),
                }
            )
        return rows

    def _asked(self, task: Task, record: Record) -> tuple[str, list[str], int]:
        prompt = str(need(record, self.prompt, "multiple_choice.prompt"))
        choices = need_list(record, self.choices, "multiple_choice.choices")
        label = need(record, self.label, "multiple_choice.label")
        if not isinstance(label, int) or not 0 <= label < len(choices) or not all(choices):
            raise DataError(
                f"task {task.name}: the label {label!r} is not the number of one of the choices "
                f"{choices}, none of which may be empty."
            )
        return prompt, choices, label

    def _scores(
        self, choices: Sequence[str], scored: Sequence[Scored], neutral: Sequence[Scored]
    ) -> list[float]:
        totals = [one.total for one in scored]
        if self.normalisation == "tokens":
            return [t / len(one.targets) for t, one in zip(totals, scored, strict=True)]
        if self.normalisation == "bytes":
            return [t / len(c.encode()) for t, c in zip(totals, choices, strict=True)]
        if self.normalisation == "pmi":
            return [t - one.total for t, one in zip(totals, neutral, strict=True)]
        return totals


def _choice(task: Task, prompt: str, choice: str, has_source: bool) -> Segment:
    """Returns a choice after its prompt."""
    parts = [Part(prompt, in_loss=False), Part(choice, is_answer=True)]
    return unended(
        example_segment(encode_parts(parts, task.codec, has_source), task.codec, has_source)
    )
