"""Scoring of freely generated answers: compared, taken item by item, or executed."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Sequence
from typing import ClassVar

import jax

from jaxgen.codecs.joint import decode_continued, opening_ids, stop_ids
from jaxgen.data.generated import item_scores
from jaxgen.data.hashing import hash64
from jaxgen.data.packing import RowShape
from jaxgen.data.parts import Example
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import Row, instance_of, last_answer, own_scores
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.metrics import edit_similarity
from jaxgen.evaluation.sandbox import Limits, run_candidate
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy


@dataclasses.dataclass(frozen=True)
class Generation:
    """Compares what the model writes after the prompt, up to a stop, with reference answers.

    Attributes:
      stop: texts that end an answer and are not part of it.
      max_tokens: the most that are generated.
      policy: how tokens are chosen; greedy by default.
      targets: the field of a list of reference answers; a record without it has the task's own
        answer as its reference.
    """

    stop: tuple[str, ...] = ("\n",)
    max_tokens: PositiveInt = 64
    policy: SamplingPolicy = SamplingPolicy(temperature=0)
    targets: str = "targets"

    METRICS: ClassVar[tuple[str, ...]] = ("exact_match", "edit_similarity")

    def __post_init__(self):
        check_domains(self, type(self).__name__)
        if not all(self.stop):
            raise ConfigError(f"generation.stop={self.stop} has an empty text; leave it out.")

    def check(self, task: Task, examples: Sequence[Example], shape: RowShape) -> None:
        """Raises DataError if a prompt leaves no room for an answer."""
        room = shape.source_length or shape.length - self.max_tokens
        beside = 1 if shape.has_source else len(opening_ids(task.codec))
        for example in examples:
            if (count := len(last_answer(example)[0])) + beside > room:
                raise DataError(
                    f"task {task.name}: a prompt of {count} tokens leaves no room for "
                    f"generation.max_tokens={self.max_tokens} in {shape.length}; shorten one of "
                    "them."
                )

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record; see `Answers.score`.

        Returns:
          Rows with "task", "instance", "exact_match" (with any reference, but for spaces around
          it), "edit_similarity" (to the nearest reference, by characters), "said" (the completion)
          and what `also` adds.

        Raises:
          DataError: if a prompt leaves no room for an answer.
        """
        codec = task.codec
        examples = task.encode(records, scorer.has_source)
        pairs = [last_answer(example) for example in examples]
        self.check(task, examples, RowShape(scorer.length, scorer.source_length))
        answers = continue_prompts(
            scorer.model,
            codec,
            [prompt for prompt, _ in pairs],
            jax.random.key(hash64(task.identity) % 2**32),
            self.policy,
            self.max_tokens,
            scorer.batch_size,
            stop_ids(codec, self.stop),
            media=[example.media for example in examples],
        )
        texts = [
            cut(decode_continued(codec, prompt, ids), self.stop)
            for (prompt, _), ids in zip(pairs, answers, strict=True)
        ]
        rows = []
        for place, (record, completion) in enumerate(zip(records, texts, strict=True)):
            references = record.get(self.targets) or [decode_continued(codec, *pairs[place])]
            stripped, targets = completion.strip(), [str(one).strip() for one in references]
            rows.append(
                {
                    "task": task.name,
                    "instance": instance_of(record, place),
                    "exact_match": int(stripped in targets),
                    "edit_similarity": max(edit_similarity(stripped, one) for one in targets),
                    "said": completion,
                    **own_scores(task, record, str(references[0]), completion),
                }
            )
        return [row | more for row, more in zip(rows, self.also(records, texts), strict=True)]

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns further columns of each row, which subclasses add; none here."""
        return [{} for _ in zip(records, texts, strict=True)]


@dataclasses.dataclass(frozen=True)
class ListedItems(Generation):
    """Scores items between semicolons, as in event_summary, by "precision" and "recall" too."""

    METRICS: ClassVar[tuple[str, ...]] = (*Generation.METRICS, "precision", "recall")

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns the precision and recall of the items."""
        scores = [item_scores(record, text) for record, text in zip(records, texts, strict=True)]
        return [{"precision": precision, "recall": recall} for precision, recall in scores]


@dataclasses.dataclass(frozen=True)
class CodeExecution(Generation):
    """Runs programs whose missing part the model writes, as in code_infilling: "passed" or not.

    A record's `prefix`, the completion and its `suffix` are run with its `tests` in
    `evaluation.sandbox`; "outcome" says how that ended.

    Attributes:
      seconds: the time that a program may take.
      memory_bytes: the memory that it may use.
    """

    seconds: PositiveFloat = 5.0
    memory_bytes: PositiveInt = 512 * 2**20

    METRICS: ClassVar[tuple[str, ...]] = (*Generation.METRICS, "passed")

    def also(self, records: Sequence[Record], texts: Sequence[str]) -> list[Row]:
        """Returns whether each program passes its tests."""
        limits = Limits(self.seconds, self.memory_bytes)

        def outcome(record: Record, completion: str) -> Row:
            prefix, suffix, tests = (
                need(record, name, "code_execution") for name in ("prefix", "suffix", "tests")
            )
            found = run_candidate(f"{prefix}{completion}{suffix}", tests, limits)
            what = found.status if found.status == "passed" else f"{found.status}: {found.reason}"
            return {"passed": int(found.status == "passed"), "outcome": what}

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(outcome, records, texts))


def cut(text: str, stop: Sequence[str]) -> str:
    """Returns the text up to the first of the stops."""
    places = [text.find(one) for one in stop]
    return text[: min((place for place in places if place >= 0), default=len(text))]
