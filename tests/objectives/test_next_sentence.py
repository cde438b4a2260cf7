"""BERT's two losses: their sum, and the head that only pairs train."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import MESHES, one_device_mesh, random_batch, random_model, tiny_model

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.next_sentence import NextSentence
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program

CONFIG = dataclasses.replace(tiny_model("bert"), num_layers=1, dropout=0.0, attention_dropout=0.0)
_ROWS = random_batch(batch_size=8)
_STARTS = (np.asarray(_ROWS.positions) == 0) & (np.asarray(_ROWS.segment_ids) > 0)
_KINDS = 1 + np.random.default_rng(0).integers(0, 2, _STARTS.shape)
BATCH = dataclasses.replace(
    _ROWS,
    token_types=(np.asarray(_ROWS.positions) > 3).astype(np.int32),
    pair_labels=(_STARTS * _KINDS).astype(np.int32),
)


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG)


@jax.jit
def loss_of(model, batch):
    return NextSentence()(model, batch)


def test_it_is_the_sum_of_two_means(model):
    loss = loss_of(model, BATCH)
    named = {name: np.asarray(p[...], np.float64) for name, p in named_parameters(model)}
    states = np.asarray(jax.jit(lambda m, b: m(b).states)(model, BATCH), np.float64)
    losses, correct = [], []
    for row, place in np.argwhere(_STARTS):
        pooled = np.tanh(states[row, place] @ named["pooler.weight"] + named["pooler.bias"])
        logits = pooled @ named["next_sentence.weight"] + named["next_sentence.bias"]
        label = BATCH.pair_labels[row, place] - 1
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        correct.append(np.argmax(logits) == label)
    assert len(losses) == 16  # Two pairs in each packed row.
    plain = jax.jit(NextToken())(model, BATCH)
    mean = loss.total / loss.weight
    np.testing.assert_allclose(mean, plain.total / plain.weight + np.mean(losses), rtol=1e-5)
    found = loss.metrics["next_sentence_loss"], loss.metrics["next_sentence_accuracy"]
    np.testing.assert_allclose([one.total / one.weight for one in found],
                               [np.mean(losses), np.mean(correct)], rtol=1e-5)  # fmt: skip
    np.testing.assert_array_equal(loss.metrics["loss"].total, plain.metrics["loss"].total)


def test_what_cannot_be_a_pair_is_refused(model):
    with pytest.raises(ConfigError, match="sentence_pairs"):
        NextSentence()(model, _ROWS)
    with pytest.raises(ConfigError, match=r"needs model\.pooler"):
        dataclasses.replace(CONFIG, pooler=False)


@pytest.mark.slow
def test_a_step_on_a_mesh_moves_the_head_as_on_one_device():
    ends = {}
    for name, mesh in (("one", one_device_mesh()), ("mixed", make_mesh(MESHES["mixed"]))):
        train = TrainConfig(steps=2, batch_size=8, length=32)
        program = build_program(CONFIG, train, mesh, objective=NextSentence())
        state, step = program.fresh_state(), program.train_step()
        begin = np.asarray(state.model.next_sentence.weight[...])
        with jax.set_mesh(mesh):
            for _ in range(2):
                state, metrics = step(state, put_batch(BATCH, mesh, Rules()))
        assert np.any(begin != np.asarray(state.model.next_sentence.weight[...]))
        ends[name] = float(metrics.objective)
    np.testing.assert_allclose(ends["one"], ends["mixed"], rtol=1e-5)


def test_the_files_make_berts_run():
    config = load(
        ["base.gin", "mixtures/sentence_pairs.gin", "models/bert/tiny.gin", "optimizers/bert.gin",
         "objectives/bert.gin"]
    )  # fmt: skip
    assert isinstance(config.objective, NextSentence) and config.mixture.every_task[0].has_pairs
    spec = config.mixture.batch_spec(batch_size=2, length=16)
    assert spec.pair_labels.shape == spec.token_types.shape == (2, 16)
