"""Context distillation's rows: each token of the student's, after a prompt, in the teacher's."""

import dataclasses
import logging

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.special import log_softmax
from support.helpers import random_model, tiny_dense
from support.tiny_sweep import EXECUTION, base

from jaxgen.configuration import load, to_gin
from jaxgen.data.prompted import PromptedMixture
from jaxgen.errors import ConfigError, DataError
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.distillation import Distillation
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import read_metrics
from jaxgen.sharding.layout import Layout
from jaxgen.training.state import state_with
from jaxgen.training.step import make_train_step

PROMPT = "Be brief. "
MIXTURE = base().mixture


def opened(mixture=MIXTURE, length=64, prompt=PROMPT, **settings):
    data = PromptedMixture(mixture, prompt, **settings)
    return data.open(batch_size=4, length=length, seed=0)


@pytest.mark.parametrize("teacher_length", [None, 80])
def test_a_teacher_reads_the_prompt_and_then_the_same(teacher_length, caplog):
    with caplog.at_level(logging.WARNING):
        batches = [opened(teacher_length=teacher_length).batch(step) for step in range(4)]
    plain = MIXTURE.open(batch_size=4, length=64, seed=0)
    prompt, begin = list(PROMPT.encode()), MIXTURE.codec.begin_id
    seen, left_out = 0, 0
    for step, batch in enumerate(batches):
        expected = plain.batch(step)
        student, teacher = batch.student, batch.teacher
        np.testing.assert_array_equal(student.tokens, expected.tokens)
        for row, segments in enumerate(student.segment_ids):
            for segment in set(segments[segments > 0]):
                of_student = np.flatnonzero(segments == segment)
                of_teacher = np.flatnonzero(teacher.segment_ids[row] == segment)
                weights = expected.loss_weights[row, of_student]
                if not len(of_teacher):
                    left_out += 1
                    assert not student.loss_weights[row, of_student].any()
                    continue
                seen += 1
                own, read = student.tokens[row, of_student], teacher.tokens[row, of_teacher]
                has_begin = int(own[0] == begin)
                rest = [*prompt, *own[has_begin:]]
                assert list(read) == ([begin, *rest] if has_begin else rest)
                assert list(teacher.positions[row, of_teacher]) == list(range(len(read)))
                places = batch.places[row, of_student]
                assert list(places) == list(of_teacher[len(prompt) :])
                np.testing.assert_array_equal(student.loss_weights[row, of_student], weights)
                tasks = set(teacher.task_ids[row, of_teacher])
                assert tasks == set(student.task_ids[row, of_student])
    assert seen > 16 and (left_out > 0) == (teacher_length is not None)
    assert ("no room behind the prompt" in caplog.text) == (left_out > 0)


@pytest.mark.slow
def test_the_loss_is_of_each_text_with_and_without_the_prompt():
    """One segment at a time, by numpy: the teacher's distribution after the prompt."""
    config = PolicyConfig(tiny_dense(vocab_size=320), reference=True)
    model = jax.jit(lambda: config.build(nnx.Rngs(0), Layout()))()
    batch = opened().batch(0)
    loss = jax.jit(lambda model: Distillation()(model, batch))(model)

    def log_probabilities(rows, row, places):
        alone = jax.tree.map(lambda x: np.asarray(x)[row : row + 1, places], rows)
        return np.asarray(model.model.logits(model.model(alone).hidden), np.float64)[0]

    expected = 0.0
    for row, segments in enumerate(batch.student.segment_ids):
        for segment in set(segments[segments > 0]):
            places = np.flatnonzero(segments == segment)
            of_teacher = np.flatnonzero(batch.teacher.segment_ids[row] == segment)
            q = log_softmax(log_probabilities(batch.student, row, places), -1)
            p = log_softmax(log_probabilities(batch.teacher, row, of_teacher), -1)
            p = p[len(PROMPT) :]
            kl = np.sum(np.exp(p) * (p - q), axis=-1)
            expected += np.sum(kl * batch.student.loss_weights[row, places])
    assert float(loss.total) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_student_comes_to_do_without_the_prompt():
    """From a model that heeds its prompts, by some steps on a few rows."""
    bare = tiny_dense(vocab_size=320)
    config = PolicyConfig(bare, reference=True)
    model = config.build(nnx.Rngs(0), Layout()).adopt(random_model(bare))
    optimizer = optax.adam(1e-2)
    state = state_with(model, optimizer)
    step, batch = make_train_step(Distillation(), optimizer), opened().batch(0)
    found = []
    for _ in range(30):
        state, metrics = step(state, batch)
        found.append(float(metrics.objective))
    assert found[0] > 0.05 and found[-1] < 0.5 * found[0]
    same = zip(
        jax.tree.leaves(state.model.reference), jax.tree.leaves(random_model(bare)), strict=True
    )
    assert all(np.array_equal(one, other) for one, other in same)


@pytest.mark.slow
def test_a_run_reads_it_and_reports_the_divergence(tmp_path):
    config = base("train.steps=2")
    config = dataclasses.replace(
        config,
        model=PolicyConfig(config.model, reference=True),
        mixture=PromptedMixture(config.mixture, PROMPT),
        objective=Distillation(),
    )
    (tmp_path / "config.gin").write_text(to_gin(config))
    assert load([str(tmp_path / "config.gin")]) == config
    told = run(config, tmp_path / "run", EXECUTION, jax.devices()[:1], show_progress=False)
    (row,) = read_metrics(told.directory.metrics_file)
    assert {"divergence/addition", "divergence/prose", "teacher_loss/prose"} <= row.keys()
    assert told.record["evaluation"]["quickstart"]["loss"] > 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"100 tokens, .* set prompted_mixture.teacher_length=264"):
        opened(prompt="x" * 100)
    with pytest.raises(DataError, match="prompt is empty"):
        PromptedMixture(MIXTURE, "")
    positions = tiny_dense(vocab_size=320, embedding_positions="learned", max_length=64)
    model = PolicyConfig(positions, reference=True).build(nnx.Rngs(0), Layout())
    with pytest.raises(ConfigError, match="exceeds the learned positions"):
        Distillation()(model, opened().batch(0))
