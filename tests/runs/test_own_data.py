"""A run on data that is not a mixture: another class with the methods of `data.base`."""

import pytest
from support.helpers import tiny_dense
from support.rhythms import Rhythms

from jaxgen.data.base import DataConfig
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig


@pytest.mark.slow
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
