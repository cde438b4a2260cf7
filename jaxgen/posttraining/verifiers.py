"""Rewards that check what can be known: answers, numbers, programs, forms and lengths."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Literal

from jaxgen.data.preprocessors import fields_of, need
from jaxgen.data.protocols import Metric, Record
from jaxgen.domains import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.metrics import edit_similarity
from jaxgen.evaluation.sandbox import Limits, run_candidate

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?!\w)")
FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class AnswerMatch:
    """How well a completion agrees with the record's answer, spaces around it aside.

    The answer is the record's field, or that of its last turn or assistant's message; where the
    record has a list of references, the best of them counts.

    Attributes:
      measure: "exact_match" is 1 or 0; "edit_similarity" 0 to 1, by characters.
      answer: the field that holds the answer.
      targets: the field of a list of references, which some records have in its place.
      after: a text; only what follows its last occurrence is compared, and a completion without it
        scores 0. "" compares all.
      stop: texts that end the answer; "" in its place compares up to the end.
      name: of the reward.
    """

    measure: Literal["exact_match", "edit_similarity"] = "exact_match"
    answer: str = "answer"
    targets: str = "targets"
    after: str = ""
    stop: str = "\n"
    name: str = "answer_match"

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the agreement of each completion."""
        return [self._one(*pair) for pair in zip(records, completions, strict=True)]

    def _one(self, record: Record, completion: str) -> float:
        listed = record.get(self.targets)
        references = [str(one).strip() for one in listed or [reference_of(record, self.answer)]]
        found = last_part(completion, self.after)
        if found is None:
            return 0.0
        found = found.strip()
        if self.stop:
            found = found.split(self.stop)[0].strip()
        if self.measure == "exact_match":
            return float(found in references)
        return max(edit_similarity(found, reference) for reference in references)


@dataclasses.dataclass(frozen=True)
class MetricReward:
    """A task's own metric (`data.protocols.Metric`) of each completion.

    Attributes:
      metric: the metric, whose name the reward has.
      answer: the field that holds the reference; see `AnswerMatch`.
    """

    metric: Metric
    answer: str = "answer"

    @property
    def name(self) -> str:
        """Returns the metric's name."""
        return self.metric.name

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the metric of each completion."""
        return [
            self.metric.score(record, reference_of(record, self.answer), completion)
            for record, completion in zip(records, completions, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class NumberMatch:
    """1 where a number in the text is the answer: "so there are 1,250.0 of them" for "1250".

    Numbers may have a sign, thousands, decimals, or be a fraction of two whole numbers. A text
    without a number scores 0.

    Attributes:
      answer: the field that holds the answer, of which the last number counts.
      which: the number of the completion that counts.
      after: a text; only numbers after its last occurrence count, as after "####" of GSM8K.
      tolerance: the largest difference from the answer, as a share of it.
      name: of the reward.
    """

    answer: str = "answer"
    which: Literal["first", "last"] = "last"
    after: str = ""
    tolerance: NonNegativeFloat = 0.0
    name: str = "number_match"

    def __post_init__(self):
        check_domains(self, "number_match")

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns whether each completion's number is right."""
        return [self._one(*pair) for pair in zip(records, completions, strict=True)]

    def _one(self, record: Record, completion: str) -> float:
        text = reference_of(record, self.answer)
        expected, found = numbers_in(text), numbers_in(last_part(completion, self.after) or "")
        if not expected:
            raise DataError(
                f"number_match.answer={self.answer!r}: the answer {text!a:.60} of a record has no "
                "number; name another field."
            )
        if not found:
            return 0.0
        right, said = expected[-1], found[0 if self.which == "first" else -1]
        return float(math.isclose(said, right, rel_tol=self.tolerance, abs_tol=0.0))


@dataclasses.dataclass(frozen=True)
class ProgramTests:
    """Whether a program passes its tests, in `evaluation.sandbox`.

    The program is the record's `prefix` (if it has one), the completion and its `suffix`. Of a
    completion with a block between ``` the last block is the program.

    Attributes:
      tests: the field of a list of statements such as "assert solve([1]) == 2".
      share: the score is the share of the tests that pass, each run by itself, in place of 1 where
        all pass.
      seconds: the time that a program may take.
      memory_bytes: the memory that it may use.
      name: of the reward.
    """

    tests: str = "tests"
    share: bool = False
    seconds: PositiveFloat = 5.0
    memory_bytes: PositiveInt = 512 * 2**20
    name: str = "program_tests"

    def __post_init__(self):
        check_domains(self, "program_tests")

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the score of each program; they run at the same time, one on each core."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._one, records, completions))

    def _one(self, record: Record, completion: str) -> float:
        tests = [str(one) for one in need(record, self.tests, "program_tests.tests")]
        blocks = FENCED.findall(completion)
        code = blocks[-1] if blocks else completion
        program = f"{record.get('prefix', '')}{code}{record.get('suffix', '')}"
        limits = Limits(self.seconds, self.memory_bytes)
        runs = [[one] for one in tests] if self.share else [tests]
        passed = [run_candidate(program, some, limits).status == "passed" for some in runs]
        return sum(passed) / len(passed)


@dataclasses.dataclass(frozen=True)
class PatternMatch:
    """1 where a regular expression is found, otherwise 0: a rule for the form of completions.

    Some expressions take for ever on some texts, and cannot be interrupted; write one without
    nested repetitions, or put it in `Guarded`.

    Attributes:
      pattern: Python's syntax; "." is any character, a line break too.
      whole: whether it must match all of the completion, spaces around it aside.
      name: of the reward.
    """

    pattern: str
    whole: bool = False
    name: str = "pattern_match"

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"pattern_match.pattern={self.pattern!r}: {error}.") from error

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns whether each completion has the form."""
        del records
        pattern = re.compile(self.pattern, re.DOTALL)
        match = pattern.fullmatch if self.whole else pattern.search
        return [float(match(one.strip()) is not None) for one in completions]


@dataclasses.dataclass(frozen=True)
class LengthPenalty:
    """0 for short completions, falling to -1 for long ones (DAPO's soft punishment, 2503.14476).

    Attributes:
      most: a completion of more scores -1.
      buffer: from `most - buffer` to `most` the score falls evenly from 0 to -1.
      unit: of the length; words are what spaces divide.
      name: of the reward.
    """

    most: PositiveInt
    buffer: NonNegativeInt = 0
    unit: Literal["characters", "words"] = "characters"
    name: str = "length_penalty"

    def __post_init__(self):
        check_domains(self, "length_penalty")
        if self.buffer > self.most:
            raise ConfigError(
                f"length_penalty.buffer={self.buffer} exceeds most={self.most}; use a smaller one."
            )

    def __call__(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Returns the punishment of each completion."""
        del records
        return [self._one(len(o if self.unit == "characters" else o.split())) for o in completions]

    def _one(self, length: int) -> float:
        if length > self.most:
            return -1.0
        return -max(0, length - (self.most - self.buffer)) / max(self.buffer, 1)


def reference_of(record: Record, answer: str = "answer") -> str:
    """Returns a record's answer: its field, or that of its last turn or assistant's message.

    Raises:
      DataError: if it has none.
    """
    if answer in record:
        return str(record[answer])
    if record.get("turns"):
        return str(record["turns"][-1][1])
    for message in reversed(record.get("messages") or ()):
        if message.get("role") == "assistant":
            return str(message.get("content", ""))
    raise DataError(
        f"a reward asks for the answer {answer!r}, and a record has {fields_of(record)}; name the "
        "field that holds it."
    )


def last_part(text: str, after: str) -> str | None:
    """Returns what follows the last occurrence of `after`, None without one; all of it for ""."""
    if not after:
        return text
    _, found, rest = text.rpartition(after)
    return rest if found else None


def numbers_in(text: str) -> list[float]:
    """Returns the numbers of a text, in order; a fraction is one number."""
    found = []
    for one in NUMBER.findall(text):
        top, _, bottom = one.replace(",", "").partition("/")
        if bottom and not int(bottom):
            continue
        found.append(float(top) / float(bottom or 1))
    return found
