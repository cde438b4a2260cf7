"""A run on data that is not a mixture: another class with the methods of `data.base`."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import tiny_dense

from jaxgen.batch import Batch
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.base import DataConfig
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig


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


def test_data_of_ones_own_is_trained_on_and_evaluated(tmp_path):
    data = Rhythms()
    assert isinstance(data, DataConfig)
    config = RunConfig(
        tiny_dense(vocab_size=320),
        data,
        TrainConfig(steps=6, batch_size=8, length=24),
        evaluation=EvaluationConfig(num_batches=1, batch_size=8),
    )
    directory = RunDirectory(tmp_path / "run")
    record = run(config, directory.path, ExecutionConfig(log_every=2), show_progress=False).record
    assert record["finished"] and record["tasks"] == ["rhythms"] and record["rhythms"] == 48
    rows = read_metrics(directory.metrics_file)
    assert [row["step"] for row in rows] == [2, 4, 6]
    # The only task's loss is the loss.
    assert all(row["loss/rhythms"] == pytest.approx(row["loss"]) for row in rows)
    assert record["evaluation"]["rhythms"]["loss"] == pytest.approx(rows[-1]["loss"], rel=0.05)
