"""Held-out losses: units by their definitions, and what they leave alone while a run trains."""

import json
import math
import types
from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense

from jaxgen.cli import main
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.evaluation.heldout import HeldoutLosses
from jaxgen.files import read_rows
from jaxgen.objectives.next_token import NextToken

SMALL = [
    "--gin_file=runs/text.gin", "--gin.model.num_layers=1", "--gin.model.embed_dim=8",
    "--gin.model.num_heads=1", "--gin.model.mlp_dim=8", "--gin.train.steps=40",
    "--gin.train.batch_size=8", "--gin.train.length=32", "--gin.evaluation.num_batches=2",
    "--gin.evaluation.batch_size=8", "--gin.execution.log_every=4",
]  # fmt: skip


def test_bits_a_byte_are_the_nats_of_all_tokens_over_the_bytes_of_the_text():
    texts = [f"número {i}, 東京 and some more words {i * i}" for i in range(80)]
    mixture = Mixture("m", (
        Task("text", InMemory(tuple({"text": t} for t in texts), 0.5), Text()),
        Task("asked", InMemory(tuple({"prompt": t, "answer": t[:4]} for t in texts), 0.5),
             PromptAnswer()),
    ))  # fmt: skip
    settings = EvaluationConfig(num_batches=3, batch_size=4)
    heldout = HeldoutLosses(NextToken(), mixture, settings, 64)
    with jax.set_mesh(one_device_mesh()):
        scores = heldout(build(tiny_dense(vocab_size=320)))
    for name in ("text", "asked"):
        bytes_, tokens, nats = 0, 0, 0.0
        for step in range(3):
            batch = heldout.opened[name].batch(step)
            targets = batch.targets[batch.loss_weights > 0]
            bytes_ += int((targets < 256).sum())
            tokens += len(targets)
        nats = scores[name]["loss"] * tokens
        assert scores[name]["bits_per_byte"] == pytest.approx(nats / math.log(2) / bytes_, rel=1e-6)
        assert scores[name]["perplexity"] == pytest.approx(math.exp(scores[name]["loss"]))
        low, high = scores[name]["loss_interval"]
        assert low < scores[name]["loss"] < high


@pytest.mark.parametrize(("asked", "rows", "read"), [(3, 80, 3), (8, 80, 8), (99, 80, 20),
                                                     (10**6, 81, 21), (10**6, 4, 8)])  # fmt: skip
def test_data_are_read_once_at_most_however_many_batches_are_asked_for(asked, rows, read):
    settings = EvaluationConfig(num_batches=asked, batch_size=4)
    mixture = Mixture("m", (Task("text", InMemory(({"text": "a"},)), Text()),))
    heldout = HeldoutLosses(NextToken(), mixture, settings, 8)
    data: Any = types.SimpleNamespace(rows_per_epoch={"text": rows})
    assert heldout.num_batches(data) == read


def test_rows_have_them_at_their_steps_and_the_run_is_the_same_without(tmp_path):
    (tmp_path / "text").mkdir()
    for index in range(8):
        (tmp_path / "text" / f"{index}.txt").write_text(f"Once upon a time, {index} times. " * 40)
    train = ["train", *SMALL, f"--gin.TEXT={tmp_path / 'text'}"]
    for name, every in (("with", "'25%'"), ("without", "None")):
        told = f"--gin.execution.heldout_every={every}"
        assert main([*train, told, f"--run_dir={tmp_path / name}"]) == 0
    rows, plain = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("with", "without"))
    steps = [row["step"] for row in rows if "heldout_loss/text" in row]
    assert steps == [12, 20, 32, 40]  # The first row of each ten steps; rows are four apart.
    assert not any("heldout" in name for row in plain for name in row)
    assert [row["loss"] for row in rows] == [row["loss"] for row in plain]
    record = json.loads((tmp_path / "with" / "run.json").read_text())["evaluation"]["text"]
    np.testing.assert_allclose(rows[-1]["heldout_loss/text"], record["loss"], rtol=1e-6)
