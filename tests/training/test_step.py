"""The step against numpy and itself: optimiser, clipping, accumulation, metrics, meshes."""

import functools
import itertools

import jax
import numpy as np
import pytest
from support.helpers import ALL_BIASES, MESHES, one_device_mesh, random_batch, tiny_dense, tiny_moe
from support.tiers import slow_but

from jaxgen.models.parameters import named_parameters
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adafactor import Adafactor
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.matrices import decayed
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine
from jaxgen.training.step import make_train_step

CONSTANT = WarmupCosine(peak=1e-2, warmup=0, final_fraction=1.0)
# As in a real run. Larger steps soon turn rounding into another choice of expert.
GENTLE = WarmupCosine(peak=1e-3, warmup=10)


def train(model, mesh, steps, accumulation=1, batch_seed=None, **changes):
    """Per-step losses and metrics, and the final state as named numpy arrays."""
    settings = {"steps": 100, "batch_size": 8, "length": 32, "schedule": CONSTANT} | changes
    config = TrainConfig(**settings)
    program = build_program(model, config, mesh, ExecutionConfig(accumulation=accumulation))
    rows = []
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        first = {name: np.asarray(p[...]) for name, p in named_parameters(state.model)}
        step = make_train_step(program.objective, program.optimizer, config.clip_norm, accumulation)
        for index in range(steps):
            batch = random_batch(index if batch_seed is None else batch_seed)
            state, metrics = step(state, put_batch(batch, mesh, Rules(), accumulation))
            rows.append(jax.device_get(metrics))
    last = {name: np.asarray(p[...]) for name, p in named_parameters(state.model)}
    return rows, first, last


@functools.cache
def curve_on_one_device(kind):
    config = tiny_dense() if kind == "dense" else tiny_moe()
    rows = train(config, one_device_mesh(), 20, schedule=GENTLE)[0]
    return [row.objective for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mesh"), list(itertools.product(["dense", "moe"], ["data", "fsdp", "tensor", "mixed"]))
)
def test_the_loss_curve_is_the_same_on_every_mesh(kind, mesh):
    config = tiny_dense() if kind == "dense" else tiny_moe()
    rows, _, _ = train(config, make_mesh(MESHES[mesh]), 20, schedule=GENTLE)
    curve = [row.objective for row in rows]
    np.testing.assert_allclose(curve, curve_on_one_device(kind), rtol=1e-5)


@pytest.mark.slow
def test_router_biases_even_the_load_without_a_loss():
    """2408.15664: with weights at rest the biases alone bring a skewed router to an even load."""
    moe = MoEConfig(
        8, 1, mlp_dim=32, scores="sigmoid", bias_balancing=True, balance_rate=0.005,
        load_balance_weight=0,
    )  # fmt: skip
    still = WarmupCosine(peak=1e-9, warmup=0)
    mesh = make_mesh(MESHES["mixed"])
    rows, _, last = train(tiny_dense(moe=moe), mesh, 40, batch_seed=0, schedule=still)
    loads = [row.sums["router/load"] for row in rows]
    crowding = [8 * (load.total / load.weight).max() for load in loads]
    assert crowding[0] > 2 and max(crowding[-5:]) < 1.5, crowding
    assert np.abs(last["stack.groups.0.blocks.0.feed_forward.router_bias"]).max() > 0.01


def test_adamw_is_the_papers_update_and_spares_scales_and_biases():
    config = tiny_dense(biases=ALL_BIASES)
    adamw = AdamW(beta1=0.8, beta2=0.9, epsilon=1e-8, weight_decay=0.5)
    mesh = one_device_mesh()
    rows, first, last = train(config, mesh, 1, optimizer=adamw, clip_norm=None)
    with jax.set_mesh(mesh):
        program = build_program(config, TrainConfig(steps=1, length=32), mesh)
        decays = {
            name: bool(flag.get_value())
            for name, flag in named_parameters(decayed(program.fresh_state().model))
        }
    for name, before in first.items():
        is_matrix = not name.endswith(("scale", "bias"))
        assert decays[name] == is_matrix, name
        # After one step Adam's corrected moments are the gradient and its square, so the update is
        # its sign (epsilon aside), and the decay is taken of the parameter.
        update = (before - last[name]) / 1e-2 - (0.5 * before if is_matrix else 0)
        moved = np.abs(update) > 1e-3
        assert moved.mean() > 0.3, name
        large = np.abs(update[moved])
        assert np.quantile(large, 0.1) > 0.5 and large.max() < 1.01, name
    assert np.isfinite(rows[0].gradient_norm)


@pytest.mark.slow
def test_adafactor_lowers_the_loss():
    rows, _, _ = train(
        tiny_dense(), one_device_mesh(), 25, batch_seed=0, optimizer=Adafactor(min_dim_factored=16)
    )
    assert rows[-1].objective < rows[0].objective - 0.3


@pytest.mark.slow
def test_clipping_scales_the_gradient_to_the_norm():
    # A huge epsilon makes Adam's first update proportional to the gradient it is given.
    blunt = AdamW(beta1=0.0, beta2=0.0, epsilon=1.0, weight_decay=0.0)
    whole = train(tiny_dense(), one_device_mesh(), 1, optimizer=blunt, clip_norm=None)
    norm = float(whole[0][0].gradient_norm)
    clipped = train(tiny_dense(), one_device_mesh(), 1, optimizer=blunt, clip_norm=norm / 1000)
    assert np.isclose(clipped[0][0].gradient_norm, norm)

    def length_of_move(run):
        _, first, last = run
        return np.sqrt(sum(np.sum((last[name] - first[name]) ** 2.0) for name in first))

    np.testing.assert_allclose(length_of_move(clipped) / 1e-2, norm / 1000, rtol=0.05)


@pytest.mark.parametrize("accumulation", slow_but([4], [2, 4]))
def test_microbatches_give_the_gradient_of_the_whole(accumulation):
    whole, _, at_once = train(tiny_dense(), one_device_mesh(), 3)
    parts, _, in_parts = train(tiny_dense(), one_device_mesh(), 3, accumulation=accumulation)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.objective, one.objective, rtol=1e-5)
        np.testing.assert_allclose(other.gradient_norm, one.gradient_norm, rtol=1e-4)
        sums = jax.tree.leaves(other.sums), jax.tree.leaves(one.sums)
        for in_part, in_whole in zip(*sums, strict=True):
            np.testing.assert_allclose(in_part, in_whole, rtol=1e-5)
    for name in at_once:
        np.testing.assert_allclose(in_parts[name], at_once[name], rtol=1e-2, atol=2e-4)


def test_a_tasks_figures_are_sums_over_its_tokens():
    rows, _, _ = train(tiny_dense(), one_device_mesh(), 1)
    batch = random_batch(0)
    loss, accuracy, share = (rows[0].sums[name] for name in ("loss", "accuracy", "token_share"))
    assert loss.labels == accuracy.labels == share.labels == batch.task_names
    for task in (0, 1):
        mine = batch.task_ids == task
        assert loss.weight[task] == accuracy.weight[task] == batch.loss_weights[mine].sum()
        assert share.total[task] == (batch.segment_ids[mine] > 0).sum()
        assert 0 <= accuracy.total[task] <= accuracy.weight[task]
    assert share.weight == (batch.segment_ids > 0).sum()
    np.testing.assert_allclose(loss.total.sum() / loss.weight.sum(), rows[0].objective, rtol=1e-6)


@pytest.mark.slow
def test_the_state_is_donated():
    mesh = one_device_mesh()
    program = build_program(tiny_dense(), TrainConfig(steps=1, length=32), mesh)
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        step = make_train_step(program.objective, program.optimizer)
        step(state, put_batch(random_batch(), mesh, Rules()))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.model))
