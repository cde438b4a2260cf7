"""Scoring of pictures, sounds and clips that a model makes from a text, by what can be read off."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.media import Media, MediaRange, media_ranges
from jaxgen.data.hashing import hash64
from jaxgen.data.image_files import encode_png
from jaxgen.data.packing import RowShape
from jaxgen.data.parts import Example
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.domains import NonNegativeInt, check_domains
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import Answers, Row, instance_of, last_answer
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy

VERIFIERS = {"image": "score_image", "audio": "score_sound", "video": "score_video"}
"""The method of a task's source that scores what was made from a record: (record, values) to a
number for each attribute, and "all" of them."""


@dataclasses.dataclass(frozen=True)
class GeneratedMedia:
    """Makes what a task's prompts ask for, and has the task's source verify each attribute.

    Attributes:
      policy: how codes are chosen.
      text: the field whose text the source compares with, where it has several.
      attributes: those that are reported beside "exact_match", which is 1 where all are right;
        sources have some of them.
      shown: instances whose picture is kept in the rows, as a PNG.
    """

    policy: SamplingPolicy = SamplingPolicy()
    text: str | None = None
    attributes: tuple[str, ...] = (
        "count", "colour", "shape", "position", "relation", "binding", "direction", "speed", "tone"
    )  # fmt: skip
    shown: NonNegativeInt = 32

    def __post_init__(self):
        check_domains(self, "generated_media")

    @property
    def METRICS(self) -> tuple[str, ...]:
        """Returns the columns whose means are reported."""
        return ("exact_match", *self.attributes)

    def check(self, task: Task, examples: Sequence[Example], shape: RowShape) -> None:
        """Raises DataError if what is to be made cannot be made or verified."""
        if shape.has_source:
            raise DataError(
                f"task {task.name}: generated_media is for models without an encoder; leave it out."
            )
        Answers().check(task, examples, shape)
        _verifier(task, _medium_of([last_answer(example)[1] for example in examples], task))

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record; see `Answers.score`.

        Returns:
          Rows with "task", "instance", "exact_match", a column for each attribute that the source
          scores, and of the first pictures "picture", a data URI.

        Raises:
          DataError: if the answers are no media, or the source cannot verify them.
        """
        pairs = [last_answer(example) for example in task.encode(records, scorer.has_source)]
        medium = _medium_of([answer for _, answer in pairs], task)
        verify = _verifier(task, medium)
        codes = continue_prompts(
            scorer.model,
            task.codec,
            [np.append(prompt, medium.begin_id).astype(np.int32) for prompt, _ in pairs],
            jax.random.key(hash64(task.identity) % 2**32),
            self.policy,
            medium.size + 1,
            scorer.batch_size,
            stops=(medium.end_id,),
            without=[np.array([medium.begin_id], np.int32)] * len(pairs),
        )
        options = {} if self.text is None else {"text": self.text}
        rows = []
        for place, (record, ids) in enumerate(zip(records, codes, strict=True)):
            (made,) = task.codec.decode_media(ids)  # pyright: ignore[reportAttributeAccessIssue]
            scores = dict(verify(record, made.values, **options))
            row = {
                "task": task.name,
                "instance": instance_of(record, place),
                "exact_match": scores.pop("all"),
                **scores,
            }
            rows.append(row | (_shown(made) if place < self.shown else {}))
        return rows


def _medium_of(answers: Sequence[np.ndarray], task: Task) -> MediaRange:
    firsts = {int(ids[0]) for ids in answers if len(ids)}
    for one in media_ranges(task.codec):
        if firsts == {one.begin_id}:
            return one
    raise DataError(
        f"task {task.name}: generated_media scores answers that are a picture, a sound or a clip; "
        "put that field last (interleave.fields), and its codec into multimodal_codec.media."
    )


def _verifier(task: Task, medium: MediaRange) -> Callable[..., dict[str, Any]]:
    name = VERIFIERS[medium.modality]
    found = getattr(task.source, name, None)
    if found is None:
        raise DataError(
            f"task {task.name}: {type(task.source).__name__} has no method {name}(record, values) "
            "that verifies what was made; score by answers, or use a source that has one."
        )
    return found


def _shown(made: Media) -> Row:
    if made.modality == "audio":
        return {}
    # Of a clip its frames side by side.
    picture = np.concatenate(made.values, axis=1) if made.modality == "video" else made.values
    return {
        "picture": f"data:image/png;base64,{base64.b64encode(encode_png(picture)).decode('ascii')}"
    }
