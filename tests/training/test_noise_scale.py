"""The noise scale against known covariances, and against gradients that were taken one by one."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from support.helpers import one_device_mesh, random_batch, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.objectives.base import Sum
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.batch_sizes import SteppedRamp
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.metrics import WindowSums
from jaxgen.training.noise_scale import GradientNoise, gradient_noise
from jaxgen.training.program import build_program
from jaxgen.training.step import StepMetrics, make_train_step

TASKS = ("first", "second")
PARTS, ROWS = 4, 8


def test_exact_where_expectations_are_given():
    """E|G_B|^2 = |G|^2 + tr(Sigma) / B, with |G|^2 = 3 and tr(Sigma) = 40."""
    found = gradient_noise(3 + 40 / 4, 3 + 40 / 32, 4, 32)
    assert found.squared_gradient == pytest.approx(3)
    assert found.variance == pytest.approx(40)


def test_batches_must_be_of_two_sizes():
    with pytest.raises(ConfigError, match="big_batch=8"):
        gradient_noise(1, 1, 8, 8)


@pytest.mark.parametrize("weights", [(8, 8, 8, 8), (20, 8, 3, 1)])
def test_unbiased_for_gradients_of_known_mean_and_covariance(weights):
    """Of unlike weight too; a row has the means over its steps, and their ratio."""
    random = np.random.default_rng(0)
    mean, deviations = random.normal(size=50) * 0.3, np.linspace(0.5, 3, 50)
    trials, shares = 4000, np.array(weights) / sum(weights)
    # Of one row; a part that weighs as much as n rows has the noise of n.
    parts_rows = shares * ROWS
    noise = random.normal(size=(trials, PARTS, 50)) * deviations / parts_rows[:, None] ** 0.5
    parts = mean + noise
    small = np.sum(parts**2, axis=-1) @ shares
    big = np.sum(np.einsum("p,tpd->td", shares, parts) ** 2, axis=-1)
    found = gradient_noise(small, big, ROWS / PARTS, ROWS)
    truth = GradientNoise(mean @ mean, deviations @ deviations)
    for values, true in zip(dataclasses.astuple(found), dataclasses.astuple(truth), strict=True):
        error = values.std(ddof=1) / trials**0.5
        assert abs(values.mean() - true) < 4 * error
        assert error < 0.03 * true
    window = WindowSums()
    for square, variance in zip(*dataclasses.astuple(found), strict=True):
        window.add(metrics_of(GradientNoise(square, variance)))
    row = window.row()
    assert row["noise_scale"] == pytest.approx(truth.variance / truth.squared_gradient, rel=0.1)
    assert row["noise_scale/variance"] == pytest.approx(found.variance.mean())
    assert row["noise_scale/squared_gradient"] == pytest.approx(found.squared_gradient.mean())


def test_no_scale_where_no_gradient_shows():
    window = WindowSums()
    window.add(metrics_of(GradientNoise(-1.0, 2.0)))
    row = window.row()
    assert row["noise_scale"] is None and row["noise_scale/variance"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_the_step_gives_the_sample_covariance_of_its_parts(fsdp):
    """tr(Sigma) is rows x its trace, weighted by learnt tokens; |G|^2 is what is left of |g|^2."""
    batch = uneven_batch()
    model = tiny_dense()
    (figures,) = steps(model, [batch], fsdp)
    gradients, weights = gradients_apart(model, batch)
    assert len(set(weights)) == PARTS
    mean = weights @ gradients / weights.sum()
    spread = weights @ np.sum((gradients - mean) ** 2, axis=1) / weights.sum()
    variance = ROWS * spread / (PARTS - 1)
    assert figures.noise.variance == pytest.approx(variance, rel=1e-4)
    assert figures.noise.squared_gradient == pytest.approx(mean @ mean - variance / ROWS, rel=1e-3)


def test_a_window_that_was_stopped_gives_the_same_row():
    figures = steps(tiny_dense(), [random_batch(seed) for seed in range(4)])
    whole, window = WindowSums(), WindowSums()
    for index, metrics in enumerate(figures):
        whole.add(metrics)
        if index == 2:
            window = WindowSums.from_record(json.loads(json.dumps(window.to_record())))
        window.add(metrics)
    assert window.row() == whole.row()
    assert whole.row()["noise_scale"] > 0


def test_a_window_continues_from_a_record_of_before_metrics_had_names():
    """The record is one that jaxgen 0.1 wrote; its columns are weight, nll, correct and tokens."""
    record = {
        "steps": 2,
        "sums": {
            "loss": 5.0,
            "per_task": [[2.0, 4.0, 1.0, 3.0], [6.0, 24.0, 3.0, 9.0]],
            "gradient_norm": 6.0,
            "parameter_norm": 20.0,
            "router": None,
        },
    }
    window = WindowSums.from_record(record, TASKS)
    window.add(dataclasses.replace(metrics_of(None), gradient_norm=0.0))
    row = window.row()
    assert (row["loss"], row["loss/first"], row["loss/second"]) == (3.2, 2.0, 26 / 7)
    assert row["accuracy/first"] == 2 / 3 and row["token_share/second"] == 10 / 14
    assert (row["objective"], row["gradient_norm"]) == (7 / 3, 2.0)


@pytest.mark.parametrize(
    ("accumulation", "ramp", "message"),
    [
        (1, None, "accumulation=1"),
        (2, SteppedRamp((4,), (10,)), "a batch of 4"),
    ],
)
def test_every_batch_must_have_parts_to_compare(accumulation, ramp, message):
    train = TrainConfig(steps=20, batch_size=8, batch_ramp=ramp)
    with pytest.raises(ConfigError, match=message):
        ExecutionConfig(accumulation=accumulation, noise_scale=True).microbatch_size(train)
    ExecutionConfig(accumulation=accumulation).microbatch_size(train)


def uneven_batch():
    """Eight rows, of which the later ones have fewer learnt tokens."""
    batch = random_batch()
    learnt = np.arange(32) < np.array([27, 25, 20, 15, 9, 8, 2, 1])[:, None]
    return dataclasses.replace(batch, loss_weights=batch.loss_weights * learnt)


def metrics_of(noise):
    """A step's figures with two tokens in the loss, one of each task, at a loss of 2."""
    ones = np.ones(2)
    sums = {
        "loss": Sum(2 * ones, ones, TASKS),
        "accuracy": Sum(ones, ones, TASKS),
        "token_share": Sum(ones, np.array(2.0), TASKS),
    }
    return StepMetrics(2.0, sums, 1.0, 1.0, noise)


def steps(model, batches, fsdp=1):
    """What steps report that clip to a norm far below the gradient's."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=fsdp), jax.devices()[:fsdp])
    program = program_of(model, mesh)
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        step = make_train_step(program.objective, program.optimizer, 1e-3, PARTS, noise_scale=True)
        figures = []
        for batch in batches:
            state, metrics = step(state, put_batch(batch, mesh, Rules(), PARTS))
            figures.append(jax.device_get(metrics))
    return figures


def program_of(model, mesh):
    config = TrainConfig(steps=9, batch_size=ROWS, length=32)
    return build_program(model, config, mesh, ExecutionConfig(accumulation=PARTS, noise_scale=True))


def gradients_apart(model, batch):
    """[parts, parameters] float64, each of its part's mean loss; and the parts' learnt tokens."""
    mesh = one_device_mesh()

    def loss(model, part):
        found = NextToken()(model, part)
        return found.total / found.weight

    gradients, weights, gradient = [], [], jax.jit(jax.grad(loss))
    with jax.set_mesh(mesh):
        start = program_of(model, mesh).fresh_state().model
        for index in range(PARTS):
            part = jax.tree.map(lambda x, i=index: np.split(x, PARTS)[i], batch)
            leaves = jax.tree.leaves(gradient(start, put_batch(part, mesh, Rules())))
            gradients.append(np.concatenate([np.float64(leaf).ravel() for leaf in leaves]))
            weights.append(float(part.loss_weights.sum()))
    return np.array(gradients), np.array(weights)
