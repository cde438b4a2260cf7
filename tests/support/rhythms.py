"""Data that is not a mixture: another class with the methods of `data.base`."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.bytes import ByteCodec


@dataclasses.dataclass(frozen=True)
class Rhythms:
    """Rows that repeat a few bytes; opened, it is itself."""

    period: int = 3
    name: str = "rhythms"
    codec: ByteCodec = ByteCodec()
    shape: tuple[int, int] = (1, 1)
    seed: int = 0
    rows: int | None = None

    task_names = ("rhythms",)

    def open(self, *, batch_size, length, seed, split="train", **others):
        seed += 10**6 * (split == "heldout")
        return dataclasses.replace(self, shape=(batch_size, length), seed=seed)

    def batch_spec(self, *, batch_size, length, source_length=None):
        batch = self.open(batch_size=batch_size, length=length, seed=0).batch(0)
        return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), batch)

    def batch(self, step, state=None, rows=None):
        count, length = self.shape
        bits = np.random.Philox(key=[step, self.seed]).random_raw(count * self.period)
        beat = (bits % 26 + 97).astype(np.int32).reshape(count, self.period)
        tokens = np.tile(beat, (1, length // self.period + 2))[:, : length + 1]
        places = np.tile(np.arange(length, dtype=np.int32), (count, 1))
        chosen = np.arange(count) if rows is None else np.array(rows(count))
        ones = np.ones_like(places)[chosen]
        return Batch(
            tokens[chosen, :-1], tokens[chosen, 1:], ones.astype(np.float32), places[chosen], ones,
            np.zeros_like(ones), task_names=self.task_names,
        )  # fmt: skip

    def iterate(self, first_step=0, *, rows=None, num_workers=0):
        while True:
            yield self.batch(first_step, rows=rows)
            first_step += 1

    def check_lasts(self, num_rows):
        pass

    def seen(self, num_rows):
        return {"rhythms": num_rows}


@dataclasses.dataclass(frozen=True)
class Poisoned(Rhythms):
    """Of some batches one row has a loss that is not finite.

    Attributes:
      poison: the batches, counted from 0.
      poisoned_row: the row.
    """

    poison: tuple[int, ...] = ()
    poisoned_row: int = 5

    def batch(self, step, state=None, rows=None):
        batch = super().batch(step, state, rows)
        if step not in self.poison or batch.tokens.shape[0] <= self.poisoned_row:
            return batch
        weights = batch.loss_weights.copy()
        weights[self.poisoned_row, 3] = np.inf
        return dataclasses.replace(batch, loss_weights=weights)
