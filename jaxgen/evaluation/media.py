"""Scoring of pictures, sounds and clips that a model makes from a text, by what can be read off."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from jaxgen.codecs.media import Media, MediaRange, media_ranges
from jaxgen.data.hashing import hash64
from jaxgen.data.image_files import encode_png
from jaxgen.data.packing import RowShape
from jaxgen.data.padding import pad_text, padded_length
from jaxgen.data.parts import Example
from jaxgen.data.protocols import Record
from jaxgen.data.sound_files import encode_wav
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
REFERENCE_METRICS = ("log_probability", "token_accuracy")
"""Of the codes of a record's own picture, sound or clip."""


@dataclasses.dataclass(frozen=True)
class GeneratedMedia:
    """Makes what a task's prompts ask for, and has the task's source verify each attribute.

    "exact_match" is 1 where all are right. For a source with other attributes than METRICS has,
    derive a class with those.

    Attributes:
      policy: how codes are chosen.
      text: the field whose text the source compares with, where it has several.
      shown: instances whose picture or sound is kept in the rows, beside the reference's.
    """

    policy: SamplingPolicy = SamplingPolicy()
    text: str | None = None
    shown: NonNegativeInt = 32

    METRICS: ClassVar[tuple[str, ...]] = (
        "exact_match", "count", "colour", "shape", "position", "relation", "binding", "direction",
        "speed", "base", "tone", *REFERENCE_METRICS,
    )  # fmt: skip

    def __post_init__(self):
        check_domains(self, "generated_media")

    def check(self, task: Task, examples: Sequence[Example], shape: RowShape) -> None:
        """Raises DataError if what is to be made cannot be made or verified."""
        _verifier(task, check_makes("generated_media", task, examples, shape))

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each record; see `Answers.score`.

        Returns:
          Rows with "task", "instance", "exact_match", a column for each attribute that the source
          scores, and of the first instances "prompt", and "made" and "reference" as data URIs.
          Where codes are predicted one after another, also "log_probability" and "token_accuracy"
          of the "answer_tokens" codes of the record's own picture or sound, which says how the
          model comes nearer before anything that it makes is right.

        Raises:
          DataError: if the answers are no media, or the source cannot verify them.
        """
        pairs = [last_answer(example) for example in task.encode(records, scorer.has_source)]
        medium = medium_of(task, [answer for _, answer in pairs])
        verify = _verifier(task, medium)
        made = make_media(scorer, task, [prompt for prompt, _ in pairs], medium, self.policy)
        shown = own_media(task, [answer for _, answer in pairs[: self.shown]])
        options = {} if self.text is None else {"text": self.text}
        likelihoods = [{}] * len(records)
        if self.policy.parallel is None:
            likelihoods = Answers().score(scorer, task, records)
        columns, rows = (*REFERENCE_METRICS, "answer_tokens"), []
        for place, (record, one, likelihood) in enumerate(
            zip(records, made, likelihoods, strict=True)
        ):
            scores = dict(verify(record, one.values, **options))
            row = {
                "task": task.name,
                "instance": instance_of(record, place),
                "exact_match": scores.pop("all"),
                **scores,
                **{name: likelihood[name] for name in columns if name in likelihood},
            }
            if place < self.shown:
                row["prompt"] = task.codec.decode(pairs[place][0]).strip()
                row |= _shown({"made": one, "reference": shown[place]})
            rows.append(row)
        return rows


def make_media(
    scorer: Scorer,
    task: Task,
    prompts: Sequence[np.ndarray],
    medium: MediaRange,
    policy: SamplingPolicy,
) -> list[Media]:
    """Returns what a model makes after each prompt; call under `jax.set_mesh`.

    Args:
      scorer: the model.
      task: gives the codec, and by its name the key of the draws.
      prompts: ids, [n] each.
      medium: what is to be made.
      policy: how codes are chosen.
    """
    nothing = pad_text(np.zeros(0, np.int32), padded_length([task]), task.codec)
    codes = continue_prompts(
        scorer.model,
        task.codec,
        [np.append(prompt, medium.begin_id).astype(np.int32) for prompt in prompts],
        jax.random.key(hash64(task.identity) % 2**32),
        policy,
        medium.size + 1,
        scorer.batch_size,
        stops=(medium.end_id,),
        without=[np.append(nothing, np.int32(medium.begin_id))] * len(prompts),
    )
    return own_media(task, codes)


def own_media(task: Task, answers: Sequence[np.ndarray]) -> list[Media]:
    """Returns the one picture, sound or clip that each of some answers' ids hold."""
    codec: Any = task.codec
    return [medium for ids in answers for medium in codec.decode_media(ids)]


def check_makes(
    scoring: str, task: Task, examples: Sequence[Example], shape: RowShape
) -> MediaRange:
    """Returns what a scoring has a model make; DataError if that cannot be made or fits no row."""
    if shape.has_source:
        raise DataError(
            f"task {task.name}: {scoring} is for models without an encoder; leave it out."
        )
    Answers().check(task, examples, shape)
    return medium_of(task, [last_answer(example)[1] for example in examples])


def medium_of(task: Task, answers: Sequence[np.ndarray]) -> MediaRange:
    """Returns what the answers of a task are, of the media of its codec.

    Raises:
      DataError: if they are no media, or of several kinds.
    """
    firsts = {int(ids[0]) for ids in answers if len(ids)}
    for one in media_ranges(task.codec):
        if firsts == {one.begin_id}:
            return one
    raise DataError(
        f"task {task.name}: its scoring needs answers that are a picture, a sound or a clip; "
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


def _shown(media: Mapping[str, Media]) -> Row:
    if any(one.modality == "audio" and one.rate is None for one in media.values()):
        return {}  # Nothing says how fast it is to be played.
    return {name: data_uri(one) for name, one in media.items()}


def data_uri(media: Media) -> str:
    """Returns a picture or a sound as an address that holds it; of a clip its frames in a row."""
    if media.modality == "audio":
        kind, data = "audio/wav", encode_wav(media.values, media.rate or 0)
    else:
        frames = media.values if media.modality == "video" else [media.values]
        kind, data = "image/png", encode_png(np.concatenate(frames, axis=1))
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
