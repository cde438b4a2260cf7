"""Prompts with solved examples before them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxgen.data.draws import Draws
from jaxgen.data.hashing import hash64
from jaxgen.data.preprocessors import need, record_key, seed_of
from jaxgen.data.protocols import Context, Epoch, Record
from jaxgen.data.sampling import sample
from jaxgen.domains import PositiveInt, Seed, check_domains
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Writes `count` solved examples before each prompt.

    They are drawn from the training split, for each record by itself and anew in each epoch, and
    are never the record or one with the same prompt, so that no answer leaks.

    Attributes:
      count: number of solved examples.
      prompt: the field that holds the prompt.
      answer: the field that holds the answer.
      between: the text between an answer and the next prompt.
      pool: number of records of the training split to draw from.
      seed: the seed of the draws.
    """

    count: PositiveInt
    prompt: str = "prompt"
    answer: str = "answer"
    between: str = "\n\n"
    pool: PositiveInt = 1000
    seed: Seed = 0

    draws = True

    def __post_init__(self):
        check_domains(self, "few_shot")
        if self.count > self.pool:
            raise ConfigError(
                f"few_shot.count={self.count} must be at most few_shot.pool={self.pool}."
            )

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records with longer prompts."""
        for record in records:
            if self not in context.kept:
                pool = sample(context.training_records(), self.pool, "few_shot", self.seed)
                context.kept[self] = pool
            shots = self._drawn(record, context.kept[self], context.epoch)
            parts = [self._text(shot) + self.between for shot in shots]
            prompt = "".join(parts) + str(need(record, self.prompt, "few_shot.prompt"))
            # The key that tells records apart must not grow with the prompt.
            key = record.get("key", f"{hash64(record_key(record)):016x}")
            yield record | {self.prompt: prompt, "key": key}

    def _drawn(self, record: Record, solved: list[Record], epoch: Epoch | None) -> list[Record]:
        draws = Draws(seed_of(record, "few_shot", self.seed, epoch=epoch))
        order = draws.permutation(len(solved))
        key, prompt = record_key(record), need(record, self.prompt, "few_shot.prompt")
        others = (solved[place] for place in order)
        shots = [
            other
            for other in others
            if record_key(other) != key and other.get(self.prompt) != prompt
        ]
        if len(shots) < self.count:
            raise DataError(
                f"few_shot.count={self.count} needs as many solved examples, and the training "
                f"split has {len(shots)} others; give more records or a smaller count."
            )
        return shots[: self.count]

    def _text(self, record: Record) -> str:
        prompt = need(record, self.prompt, "few_shot.prompt")
        return f"{prompt}{need(record, self.answer, 'few_shot.answer')}"
