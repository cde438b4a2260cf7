"""Answers scored by one forward pass: several metrics of the same prediction.

The greedy continuation of the prompt equals the answer exactly where every token of the answer is
the most likely one after those before it, so an exact match needs no decoding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import decode_continued
from jaxgen.codecs.media import locate, media_ranges
from jaxgen.data.packing import RowShape, check_longest
from jaxgen.data.parts import ANSWER, IN_LOSS, Example
from jaxgen.data.protocols import Record
from jaxgen.data.segments import example_segment, sizes_of
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.base import Row
from jaxgen.evaluation.likelihood import Scored, Scorer
from jaxgen.evaluation.metrics import bits_per_byte, edit_similarity


@dataclasses.dataclass(frozen=True)
class Answers:
    """Scores every answer of an instance, end token included, after the references before it."""

    METRICS: ClassVar[tuple[str, ...]] = (
        "exact_match", "token_accuracy", "edit_similarity", "log_probability", "bits_per_byte"
    )  # fmt: skip

    def check(self, task: Task, examples: Sequence[Example], shape: RowShape) -> None:
        """Raises DataError if an instance is longer than a row, or answers are no tokens."""
        if any(_is_drawn(example, task.codec) for example in examples):
            raise DataError(
                f"the model draws the answers of {task.name} by flow, and tokens say only that a "
                "picture begins; leave the task out of the suite, and give "
                "evaluation.evaluators = (@drawn_pictures(),)."
            )
        segments = [example_segment(e, task.codec, shape.has_source) for e in examples]
        check_longest(task.name, sizes_of(segments), shape)

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record of a task with answers.

        Args:
          scorer: the model; call under `jax.set_mesh`.
          task: the task, whose features say what the answers are.
          records: the instances.

        Returns:
          Rows with "task", "instance" (its key, or its number), "exact_match" (0 or 1),
          "token_accuracy", "edit_similarity" (of the likeliest tokens), "log_probability" (of the
          whole answer, in nats), "bits_per_byte" (of the answer's text), "confidence" (the
          answer's probability) and "answer_tokens". An empty answer, or one with a picture,
          has no bits per byte.

        Raises:
          DataError: if an instance is longer than a row.
        """
        examples = [only_answers(example) for example in task.encode(records, scorer.has_source)]
        segments = [example_segment(e, task.codec, scorer.has_source) for e in examples]
        scored = scorer.score(task.name, segments, task.codec.pad_id)
        texts = [
            [
                decode_continued(task.codec, prompt_of(example), ids)
                for ids in (one.targets, one.predicted)
            ]
            for example, one in zip(examples, scored, strict=True)
        ]
        return [
            {
                "task": task.name,
                "instance": instance_of(record, place),
                "exact_match": int(one.is_greedy),
                "token_accuracy": float((one.predicted == one.targets).mean()),
                "edit_similarity": edit_similarity(one.predicted.tolist(), one.targets.tolist()),
                "log_probability": one.total,
                **_per_byte(one, texts[place][0], task.codec),
                "confidence": math.exp(one.total),
                "answer_tokens": len(one.targets),
                **own_scores(task, record, *texts[place]),
            }
            for place, (record, one) in enumerate(zip(records, scored, strict=True))
        ]


def _per_byte(scored: Scored, text: str, codec: Codec) -> Row:
    """Returns the bits per byte of an answer of text alone."""
    is_text = not locate(scored.targets, media_ranges(codec))[0].any()
    return {"bits_per_byte": bits_per_byte(scored.total, text)} if text and is_text else {}


def own_scores(task: Task, record: Record, reference: str, completion: str) -> Row:
    """Returns the scores of an answer by the task's own metrics, by name."""
    return {one.name: one.score(record, reference, completion) for one in task.own_metrics}


def only_answers(example: Example) -> Example:
    """Returns the example with loss on its answers and the end token alone."""
    assert example.flags is not None, "examples with answers have flags"
    is_answer = example.flags & ANSWER > 0
    flags = np.where(is_answer, IN_LOSS | ANSWER, 0).astype(np.uint8)
    return dataclasses.replace(example, flags=flags)


def writes_answers(task: Task) -> bool:
    """Returns whether a task has answers of tokens, and not pictures that a model draws by flow."""
    draws = getattr(task.codec, "draws", None)
    if not task.has_answers or draws is None or not draws("image"):
        return task.has_answers
    return not any(_is_drawn(one, task.codec) for one in task.encode(task.instances(1, seed=0)))


def _is_drawn(example: Example, codec: Codec) -> bool:
    """Returns whether an answer has the token that begins a picture, and not its places."""
    assert example.flags is not None, "examples with answers have flags"
    is_answer, ranges = example.flags & ANSWER > 0, media_ranges(codec)
    begins = np.isin(example.ids, [one.begin_id for one in ranges if one.begin_id >= 0])
    is_code = locate(example.ids, ranges)[0] > 0
    return bool(((begins & is_answer)[:-1] & (is_code & ~is_answer)[1:]).any())


def prompt_of(example: Example) -> np.ndarray:
    """Returns the ids of all that comes before the first answer."""
    assert example.flags is not None, "examples with answers have flags"
    answers = np.flatnonzero(example.flags & ANSWER)
    return example.ids[: answers[0] if len(answers) else None]


def last_answer(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of all that comes before the last answer, and those of the last answer."""
    assert example.flags is not None, "examples with answers have flags"
    is_answer = example.flags & ANSWER > 0
    begins = np.flatnonzero(is_answer & ~np.append(False, is_answer[:-1]))
    begin = int(begins[-1]) if len(begins) else len(example.ids)  # An answer may be empty.
    return example.ids[:begin], example.ids[begin:]


def instance_of(record: Record, place: int) -> str:
    """Returns the name of an instance in rows: its key, or its index if it has none."""
    return str(record.get("key", place))
