"""Answers that are written freely: sampled to a stop, then compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax

from jaxgen.data.hashing import hash64
from jaxgen.data.sources import Record
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import Row, instance_of, last_answer
from jaxgen.evaluation.metrics import edit_similarity
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Generation:
    """What the model writes after the prompt, up to a stop, beside the right answers.

    Attributes:
      stop: texts that end an answer and are not part of it.
      max_tokens: the most that are written.
      policy: how tokens are chosen; greedy by default.
      targets: the field of a list of right answers, where a record has one; otherwise the task's
        own answer is the right one.
    """

    stop: tuple[str, ...] = ("\n",)
    max_tokens: int = 64
    policy: SamplingPolicy = SamplingPolicy(temperature=0)
    targets: str = "targets"

    METRICS: ClassVar[tuple[str, ...]] = ("exact_match", "edit_similarity")

    def __post_init__(self):
        if self.max_tokens < 1 or not all(self.stop):
            raise ConfigError(
                f"generation.max_tokens={self.max_tokens} must be positive, and no text of "
                f"generation.stop={self.stop} empty."
            )

    def score(
        self,
        model: Transformer,
        task: Task,
        records: Sequence[Record],
        batch_size: int,
        length: int,
        source_length: int | None = None,
    ) -> list[Row]:
        """One row for each record; see `Answers.score`.

        Returns:
          Rows with "task", "instance", "exact_match" (of one right answer, spaces around them
          aside), "edit_similarity" (to the nearest, by characters) and "said".

        Raises:
          DataError: if a prompt leaves no room for an answer.
        """
        codec, texts = task.codec, []
        pairs = [last_answer(example) for example in task.encode(records)]
        most = length if source_length is None else source_length
        for given, _ in pairs:
            if len(given) + 1 + (self.max_tokens if source_length is None else 0) > most:
                raise DataError(
                    f"task {task.name}: a prompt of {len(given)} tokens leaves no room for "
                    f"generation.max_tokens={self.max_tokens} in {most}; shorten one of them."
                )
        prompts = [given for given, _ in pairs]
        key = jax.random.key(hash64(task.identity) % 2**32)
        for said in continue_prompts(
            model, codec, prompts, key, self.policy, self.max_tokens, batch_size
        ):
            texts.append(cut(codec.decode(said), self.stop))
        rows = []
        for place, (record, (_, answer), said) in enumerate(
            zip(records, pairs, texts, strict=True)
        ):
            right = [str(t) for t in record.get(self.targets) or [codec.decode(answer)]]
            rows.append(
                {
                    "task": task.name,
                    "instance": instance_of(record, place),
                    "exact_match": int(said.strip() in [one.strip() for one in right]),
                    "edit_similarity": max(edit_similarity(said.strip(), r.strip()) for r in right),
                    "said": said,
                }
            )
        return rows


def cut(text: str, stop: Sequence[str]) -> str:
    """A text up to the first of some texts."""
    places = [text.find(one) for one in stop]
    return text[: min((place for place in places if place >= 0), default=len(text))]
