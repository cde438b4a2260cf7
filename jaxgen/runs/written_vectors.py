"""DALL-E 2's autoregressive prior: a language model that writes the codes of a picture's vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.media import media_ranges
from jaxgen.codecs.written_vectors import VectorCodec
from jaxgen.data.parts import encode_parts
from jaxgen.data.tasks import Task
from jaxgen.data.vector_prompts import CaptionVectors
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy


@dataclasses.dataclass(frozen=True)
class VectorWriter:
    """The first stage of a cascade, see `runs.cascades.Stage`: captions to vectors of pictures.

    Attributes:
      name: of its directory, for messages.
      model: the language model.
      task: whose preprocessors have `@caption_vectors()`, and whose codec has the vectors'.
      policy: how codes are chosen.
    """

    name: str
    model: Any
    task: Task
    policy: SamplingPolicy

    is_prior = True
    draws_in_rows = False
    low_size = None
    num_steps = 0

    def make(
        self,
        captions: Sequence[str],
        embeddings: Any,
        seed: int,
        batch_size: int,
        *ignored: Any,
        **options: Any,
    ) -> np.ndarray:
        """Returns vectors of the length sqrt(width), [captions, width] float32.

        Call under `jax.set_mesh`. An id that is no code stands for the middle bucket.
        """
        del embeddings, ignored, options  # They are of pictures from noise.
        codec, steps = self.task.codec, prompting_of(self.task)
        (place,) = [one for one in media_ranges(codec) if one.modality == "image"]
        before = [
            np.append(encode_parts(steps.prompt(caption), codec).ids, np.int32(place.begin_id))
            for caption in captions
        ]
        written = continue_prompts(
            self.model,
            codec,
            before,
            jax.random.key(seed),
            self.policy,
            place.grid[2],
            batch_size,
            stops=(place.end_id,),
        )
        middle, made = place.num_codes // 2, []
        for ids in written:
            codes = np.full(place.grid[2], middle, np.int32)
            found = ids[: len(codes)] - place.first_id
            is_code = (found >= 0) & (found < place.num_codes)
            codes[: len(found)] = np.where(is_code, found, middle)
            made.append(steps.codec.decode(codes))
        vectors = np.stack(made)
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors / norms * math.sqrt(vectors.shape[1])


def prompting_of(task: Task) -> CaptionVectors:
    """Returns what puts a task's captions and vectors before its pictures'.

    Raises:
      ConfigError: if the task has no such thing.
    """
    found = [step for step in task.preprocessors if isinstance(step, CaptionVectors)]
    if not found:
        raise ConfigError(
            f"the task {task.name} has no @caption_vectors() among its preprocessors, by which a "
            "model writes the vectors of pictures; see runs/diffusion/written_prior.gin."
        )
    return found[-1]


def writes_vectors(mixture: Any) -> bool:
    """Returns whether the models of a run's data write vectors of pictures."""
    media = getattr(mixture.codec, "media", ())
    return any(isinstance(one, VectorCodec) for one in media)


def writer_of(name: str, model: Any, mixture: Any, policy: SamplingPolicy) -> VectorWriter:
    """Returns the stage of a run that writes vectors."""
    return VectorWriter(name, model, mixture.every_task[0], policy)


@dataclasses.dataclass(frozen=True)
class WrittenVectors:
    """Writes the vectors of held-out captions' pictures, and compares them with the true ones.

    Attributes:
      policy: how codes are chosen.
      num_examples: captions.
      name: the name in tables.
    """

    policy: SamplingPolicy = SamplingPolicy(temperature=0.0)
    num_examples: PositiveInt = 128
    name: str = "written_vectors"

    def __post_init__(self):
        check_domains(self, "written_vectors")

    def check(self, context: EvaluationContext) -> None:
        """Raises ConfigError if no vectors are written."""
        prompting_of(context.data.every_task[0])  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption.

        Returns:
          Rows with "instance"; "cosine" of the vector that was written and the picture's; "found",
          whether no other picture's is as near; and "chance" of that.
        """
        data: Any = context.data
        stage = writer_of("this run", model, data, self.policy)
        steps, records = prompting_of(stage.task), []
        records = stage.task.instances(self.num_examples, context.seed, "heldout")
        captions = [str(record[steps.text]) for record in records]
        made = stage.make(captions, None, context.seed, context.batch_size)
        codec = steps.codec
        true = np.stack([codec.decode(codec.encode(record[steps.image])) for record in records])
        near = _unit(made) @ _unit(true).T
        own = np.diagonal(near)
        return [
            {
                "instance": instance_of(record, place),
                "cosine": float(own[place]),
                "found": int((near[place] >= own[place]).sum() == 1),
                "chance": 1 / len(records),
            }
            for place, record in enumerate(records)
        ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
