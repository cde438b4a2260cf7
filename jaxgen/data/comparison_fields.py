"""The usual layouts of preference data: the fields of a record that hold what is compared.

Any frozen dataclass with a `group`, the most completions of a prompt, and a method
`compared(record)` is a layout. One whose completions have scored steps has `has_steps = True`, and
one of pairs with probabilities `has_preference = True`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from jaxgen.data.features import shown
from jaxgen.data.hashing import hash64
from jaxgen.data.preprocessors import need, record_key
from jaxgen.data.protocols import Record
from jaxgen.domains import NonNegativeFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError

Message = dict[str, Any]
Turns = str | list[Message]
"""A text, or the messages of a conversation."""


class Compared(NamedTuple):
    """Completions of a prompt, and how good they are.

    Attributes:
      prompt: what they follow; with no messages a conversation begins with them.
      completions: each of the prompt's kind.
      scores: of each, larger is better.
      preference: the probability that the first of two is the better; None: as the scores say.
      steps: of each completion the text's pieces that are scored by themselves, and their scores.
    """

    prompt: Turns
    completions: tuple[Turns, ...]
    scores: tuple[float, ...]
    preference: float | None = None
    steps: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...] = ()


@runtime_checkable
class ComparisonLayout(Protocol):
    """Says where a record has a prompt, its completions and what they are worth."""

    @property
    def group(self) -> int: ...

    def compared(self, record: Record) -> Compared:
        """Returns what is compared; raises DataError if the record has nothing that can be."""
        ...


@dataclasses.dataclass(frozen=True)
class PreferencePairs:
    """Two completions, of which the first was preferred.

    They are texts or lists of messages, with the prompt in a field of its own or without: two whole
    conversations have their common beginning for a prompt (as HH's texts, up to the turn of which
    they differ).

    Attributes:
      chosen: the field of the better.
      rejected: the field of the worse.
      prompt: the field of the prompt; records may lack it.
      turn: what stands before an answer in whole conversations that are texts.
      preference: a field with the probability that the first is the better; None: it is.
      margin: a field with the number by which it is better, or with a key of `margins`; None: 1.
      margins: the numbers of ratings that are words.
    """

    chosen: str = "chosen"
    rejected: str = "rejected"
    prompt: str = "prompt"
    turn: str = "\n\nAssistant:"
    preference: str | None = None
    margin: str | None = None
    margins: dict[str, NonNegativeFloat] | None = None

    group = 2
    has_preference = True

    def __post_init__(self):
        check_domains(self, "preference_pairs")

    def compared(self, record: Record) -> Compared:
        """Returns the pair; raises DataError if there are no two, or nothing tells them apart."""
        names = self.chosen, self.rejected
        better, worse = (need(record, name, "preference_pairs") for name in names)
        prompt = record.get(self.prompt)
        if all(is_turns(one) for one in (better, worse)):
            found = _messages_after(prompt, better, worse)
        elif isinstance(better, str) and isinstance(worse, str):
            found = (prompt, better, worse) if prompt else self._after_common_text(better, worse)
        else:
            raise DataError(
                f"{self.chosen!r} and {self.rejected!r} must be two texts or two lists of "
                f"messages, and a record has {shown(record)}."
            )
        preference = None if self.preference is None else record.get(self.preference)
        if preference is not None:
            preference = _number(preference, self.preference, 0.0, 1.0)
        margin = 1.0 if self.margin is None else self._margin(need(record, self.margin, "margin"))
        certain = 1.0 if preference is None else preference
        return Compared(found[0], found[1:], (margin, 0.0), certain)

    def _margin(self, value: Any) -> float:
        return _number((self.margins or {}).get(str(value), value), self.margin)

    def _after_common_text(self, better: str, worse: str) -> tuple[str, str, str]:
        same = (one == other for one, other in zip(better, worse, strict=False))
        common = better[: sum(itertools.takewhile(bool, same))]
        end = common.rfind(self.turn) + len(self.turn)
        if end < len(self.turn):
            raise DataError(
                f"two whole conversations have no common beginning up to {self.turn!r}: "
                f"{better[:60]!r} and {worse[:60]!r}; set preference_pairs.turn, or .prompt."
            )
        return better[:end], better[end:], worse[end:]


@dataclasses.dataclass(frozen=True)
class RankedCompletions:
    """Several completions of a prompt with their scores or ranks.

    Attributes:
      prompt: the field of the prompt.
      completions: the field of a list of texts, of lists of messages, or of objects that have them
        (UltraFeedback).
      scores: the field of a list of numbers, larger is better; where completions are objects, of
        each.
      text: where completions are objects, the field of the text.
      are_ranks: whether the scores are ranks: 1 is the best.
      group: the most completions of a record.
      take: "all"; or two of them, the best and either the worst, or one of the others that a hash
        of the record chooses (Zephyr, 2310.16944, 4).
    """

    prompt: str = "prompt"
    completions: str = "completions"
    scores: str = "scores"
    text: str = "response"
    are_ranks: bool = False
    group: PositiveInt = 4
    take: Literal["all", "best_and_worst", "best_and_other"] = "all"

    def __post_init__(self):
        check_domains(self, "ranked_completions")
        if self.group < 2 or (self.take != "all" and self.group != 2):
            raise ConfigError(
                f"ranked_completions.group={self.group} with take={self.take!r}: a comparison has "
                "2 completions or more, and 2 are taken where not all are."
            )

    def compared(self, record: Record) -> Compared:
        """Returns the completions; raises DataError if there are too few, or too many."""
        found = need(record, self.completions, "ranked_completions.completions")
        if not isinstance(found, list | tuple) or len(found) < 2:
            raise DataError(f"{self.completions!r} must be a list of two or more: {found!a:.60}.")
        if all(isinstance(one, dict) and "role" not in one for one in found):
            texts = [need(one, self.text, "ranked_completions.text") for one in found]
            scores = [need(one, self.scores, "ranked_completions.scores") for one in found]
        else:
            texts, scores = list(found), need(record, self.scores, "ranked_completions.scores")
        if not isinstance(scores, list | tuple) or len(scores) != len(texts):
            raise DataError(f"{len(texts)} completions have the scores {scores!a:.60}.")
        sign = -1.0 if self.are_ranks else 1.0
        numbers = [sign * _number(score, self.scores) for score in scores]
        if self.take != "all":
            texts, numbers = self._two(record, texts, numbers)
        elif len(texts) > self.group:
            raise DataError(
                f"there are {len(texts)} completions, and ranked_completions.group={self.group}; "
                "raise it, or take two of them."
            )
        prompt = need(record, self.prompt, "ranked_completions.prompt")
        return Compared(prompt, tuple(texts), tuple(numbers))

    def _two(self, record: Record, texts: list[Any], numbers: list[float]) -> tuple[list, list]:
        best = max(range(len(texts)), key=lambda place: numbers[place])
        others = [place for place in range(len(texts)) if numbers[place] < numbers[best]]
        if not others:
            raise DataError(f"all {len(texts)} completions have the score {numbers[0]}.")
        other = min(others, key=lambda place: numbers[place])
        if self.take == "best_and_other":
            other = others[hash64(record_key(record), "best_and_other") % len(others)]
        return [texts[best], texts[other]], [numbers[best], numbers[other]]


@dataclasses.dataclass(frozen=True)
class LabelledCompletions:
    """Completions that are good or bad by themselves, as KTO learns from.

    Attributes:
      prompt: the field of the prompt.
      completion: the field of the completion.
      label: the field that is true, or 1, of a good one.
    """

    prompt: str = "prompt"
    completion: str = "completion"
    label: str = "label"

    group = 1

    def compared(self, record: Record) -> Compared:
        """Returns the completion; raises DataError if the record lacks something."""
        fields = (self.prompt, self.completion, self.label)
        prompt, completion, label = (need(record, one, "labelled_completions") for one in fields)
        return Compared(prompt, (completion,), (_number(label, self.label, 0.0, 1.0),))


@dataclasses.dataclass(frozen=True)
class ScoredSteps:
    """Completions in steps, of which each has a score of its own, as process rewards learn from.

    Attributes:
      prompt: the field of the prompt, a text.
      steps: the field of the list of texts that the completion is, one after another.
      scores: the field of the list of their scores, from 0 to 1, or true where a step is right.
      after: what is written after each step.
    """

    prompt: str = "prompt"
    steps: str = "completions"
    scores: str = "labels"
    after: str = "\n"

    group = 1
    has_steps = True

    def compared(self, record: Record) -> Compared:
        """Returns the completion; raises DataError if steps and scores do not fit."""
        fields = (self.prompt, self.steps, self.scores)
        prompt, steps, scores = (need(record, one, "scored_steps") for one in fields)
        lists = isinstance(steps, list | tuple) and isinstance(scores, list | tuple)
        if not lists or len(steps) != len(scores) or not steps:
            raise DataError(f"the steps {steps!a:.60} have the scores {scores!a:.60}.")
        texts = tuple(f"{step}{self.after}" for step in steps)
        numbers = tuple(_number(score, self.scores, 0.0, 1.0) for score in scores)
        return Compared(prompt, ("".join(texts),), (min(numbers),), steps=((texts, numbers),))


def is_turns(value: Any) -> bool:
    """Returns whether a value is a list of messages."""
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)


def _messages_after(prompt: Any, better: list, worse: list) -> tuple[list, list, list]:
    """Returns the messages of the prompt and those that follow it in each completion."""
    better, worse = list(better), list(worse)
    known = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or ())
    begins = all(one[: len(known)] == known for one in (better, worse))
    if known and not begins:
        return known, better, worse
    count, most = 0, min(len(better), len(worse)) - 1
    while count < most and better[count] == worse[count]:
        count += 1
    return better[:count], better[count:], worse[count:]


def _number(value: Any, name: str | None, low: float = -math.inf, high: float = math.inf) -> float:
    """Returns a field's number; raises DataError if it is none, or not between the two."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        between = "" if math.isinf(low) else f" from {low:g} to {high:g}"
        raise DataError(f"the field {name!r} must be a finite number{between}: {value!a:.40}.")
    return number
