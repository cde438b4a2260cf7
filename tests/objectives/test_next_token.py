"""Losses as named sums: what is reported of a batch, and what may be accumulated."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, random_batch, tiny_dense, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.objectives.base import Loss
from jaxgen.objectives.next_token import NextToken
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.program import build_program


def test_a_batch_without_task_names_reports_the_same_whole():
    model, batch = build(tiny_dense()), random_batch()
    named = NextToken()(model, batch)
    whole = NextToken()(model, dataclasses.replace(batch, task_names=()))
    assert whole.total == named.total
    for name in ("loss", "accuracy"):
        one, parts = whole.metrics[name], named.metrics[name]
        assert one.labels == () and parts.labels == batch.task_names
        np.testing.assert_allclose(one.total, np.sum(parts.total), rtol=1e-6)
        np.testing.assert_allclose(one.weight, np.sum(parts.weight), rtol=1e-6)


@pytest.mark.slow
def test_losses_of_parts_add_up_to_that_of_the_whole():
    model, batch = build(tiny_dense()), random_batch()
    whole = NextToken(z_loss=1e-2)(model, batch)
    halves = [
        NextToken(z_loss=1e-2)(model, jax.tree.map(lambda x, h=half: np.split(x, 2)[h], batch))
        for half in (0, 1)
    ]
    added = jax.tree.map(lambda a, b: a + b, *halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), added, whole)


@pytest.mark.slow
def test_a_routers_losses_weigh_as_much_as_the_tokens():
    model, batch = build(tiny_moe()), random_batch()
    loss = NextToken()(model, batch)
    tokens = np.sum(loss.metrics["loss"].total)
    balance, z = (loss.metrics[f"router/{name}"] for name in ("load_balance_loss", "z_loss"))
    moe = model.config.moe
    assert moe is not None
    added = moe.load_balance_weight * np.sum(balance.total)
    added += moe.router_z_weight * np.sum(z.total)
    np.testing.assert_allclose(loss.total, tokens + added, rtol=1e-5)
    assert loss.metrics["router/load"].total.shape == (2, 8)


def test_loads_of_experts_are_told_by_task():
    """Those of the tasks, weighed by their assignments, make that of all tokens."""
    model, batch = build(tiny_moe()), random_batch()
    loss = NextToken()(model, batch)
    parts = [loss.metrics[f"router/load/{task}"] for task in batch.task_names]
    tokens = [(batch.segment_ids == segment).sum() for segment in (1, 2)]
    # Two experts for each token in each of two sparse layers.
    assert [float(one.weight) for one in parts] == [4 * number for number in tokens]
    for one in parts:
        np.testing.assert_allclose(one.total.sum(axis=-1), one.weight, rtol=1e-5)
    load, whole = loss.metrics["router/load"], sum(one.weight for one in parts)
    expected = load.total / load.weight
    np.testing.assert_allclose(sum(one.total for one in parts) / whole, expected, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Contrastive:
    adds_over_microbatches = False

    def __call__(self, model, batch, key):
        return Loss(model, batch, {})


def test_an_objective_that_does_not_add_over_microbatches_is_not_accumulated():
    mesh = one_device_mesh()
    train = TrainConfig(steps=1, batch_size=8, length=32)
    build_program(tiny_dense(), train, mesh, objective=Contrastive())
    twice = ExecutionConfig(accumulation=2)
    with pytest.raises(ConfigError, match=r"accumulation=2.*Contrastive.*set it to 1"):
        build_program(tiny_dense(), train, mesh, twice, Contrastive())
