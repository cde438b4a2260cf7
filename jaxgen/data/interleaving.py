"""Texts, pictures, sounds and clips of a record in one order: captions, questions, pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgen.codecs.media import media_of
from jaxgen.data.draws import Draws
from jaxgen.data.parts import PARTS, Part
from jaxgen.data.preprocessors import need, seed_of
from jaxgen.data.protocols import Context, Record
from jaxgen.domains import Seed, UnitFraction, check_domains
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Interleave:
    """Puts fields of a record one after another; the features prompt_answer make them a row.

    The last field is the answer, which a model writes and is scored on. A field that is a list of
    texts and media, such as a page, is all of them in order.

    Attributes:
      fields: names of the fields, each with text or an array (see `codecs.media.media_of`).
      reversed_rate: share of the records whose fields come in reverse, drawn anew in each epoch: a
        picture before its caption teaches to describe it, and after it to draw it. In evaluations
        none do.
      loss_on_all: whether what comes before the answer is in the loss too.
      dropped_rate: share of the records without what comes before the answer, drawn anew in each
        epoch, so that a model can be guided (see `SamplingPolicy.guidance`).
      seed: the seed of the draws.
    """

    fields: tuple[str, ...]
    reversed_rate: UnitFraction = 0.0
    loss_on_all: bool = False
    dropped_rate: UnitFraction = 0.0
    seed: Seed = 0

    def __post_init__(self):
        check_domains(self, "interleave")
        if isinstance(self.fields, str):
            raise ConfigError(
                f"interleave.fields={self.fields!r} is one text; write [{self.fields!r}]."
            )
        if not self.fields:
            raise ConfigError("interleave.fields is empty; name the fields of a record in order.")

    @property
    def draws(self) -> bool:
        """Returns whether some records may come in reverse, or without their beginning."""
        return self.reversed_rate > 0 or self.dropped_rate > 0

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records with their parts; raises DataError naming what is missing."""
        for record in records:
            fields = self.fields
            is_dropped = False
            if self.draws and context.epoch is not None:
                draws = Draws(seed_of(record, "interleave", self.seed, epoch=context.epoch))
                is_reversed, is_dropped = draws.uniform(2) < (self.reversed_rate, self.dropped_rate)
                fields = fields[::-1] if is_reversed else fields
            *before, answer = [self._values(record, name) for name in fields]
            before = [] if is_dropped else before
            rate = record.get("rate")
            given = [_part(value, rate, self.loss_on_all) for values in before for value in values]
            yield record | {PARTS: given + [_part(value, rate, True, True) for value in answer]}

    def _values(self, record: Record, name: str) -> list[Any]:
        value = need(record, name, "interleave.fields")
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise DataError(f"the field {name!r} of a record is an empty list; leave it out.")
        for one in values:
            if not isinstance(one, str | np.ndarray):
                raise DataError(
                    f"the field {name!r} of a record has {type(one).__name__}, neither text nor an "
                    "array: decode pictures and sounds before interleave, or name another field."
                )
        return list(values)


def _part(
    value: str | np.ndarray, rate: int | None, in_loss: bool, is_answer: bool = False
) -> Part:
    if isinstance(value, str):
        return Part(value, in_loss, is_answer)
    return Part("", in_loss, is_answer, media=media_of(value, rate))
