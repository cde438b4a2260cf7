"""Estimates, the search by them, and the changes that they propose."""

import dataclasses

import jax
import pytest

from jaxgen.configuration import load_run
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.planning.changes import fitting_changes
from jaxgen.planning.estimate import Choice, Estimator
from jaxgen.planning.plan import Memory, Plan, expense_of
from jaxgen.planning.roofline import Roofline
from jaxgen.planning.search import Candidate, search, with_choice
from jaxgen.planning.topology import parse_topology
from jaxgen.planning.work import Work
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.memory import bytes_of_shard
from jaxgen.training.offloading import is_on_host
from jaxgen.training.program import build_program

SMALL = ["model.num_layers=1", "execution.scan_unroll=1", "train.batch_size=8", "train.length=32"]


def small_run(*bindings):
    return load_run(["runs/quickstart.gin"], [*SMALL, *bindings])


def published(model, batch_size, length):
    files = ["base.gin", "mixtures/quickstart.gin", f"models/{model}.gin"]
    bindings = ["train.steps=10", f"train.batch_size={batch_size}", f"train.length={length}"]
    return load_run(files, [*bindings, "model.compute_dtype='bfloat16'"])


def meshes(number, count=5):
    if count == 1:
        return [(number,)]
    factors = [n for n in range(1, number + 1) if number % n == 0]
    return [(first, *rest) for first in factors for rest in meshes(number // first, count - 1)]


@pytest.mark.parametrize("offload", [False, True])
def test_the_state_of_an_estimate_is_exact(offload):
    config, execution = small_run("train.ema_decay=0.9", f"execution.offload_optimizer={offload}")
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    state = build_program(config.model, config.train, mesh, execution).abstract_state()
    held = (state.model, state.optimizer_state, state.ema)
    leaves = [leaf for leaf in jax.tree.leaves(held) if not is_on_host(leaf)]
    exact = sum(map(bytes_of_shard, leaves))
    estimator = Estimator(config, parse_topology("cpu:8"), execution)
    # But for two counters that optax keeps.
    assert estimator.of(Choice((2, 2, 1, 1, 2, 1), "full", 1)).state == pytest.approx(exact, abs=16)


def test_what_is_refused_is_what_a_run_refuses():
    sizes = ("model.num_heads=6", "model.head_dim=8", "model.mlp_dim=96", "model.vocab_size=322")
    config, execution = small_run(*sizes)
    estimator = Estimator(config, parse_topology("cpu:8"), execution)
    refused = 0
    for sizes in meshes(8):
        choice = Choice((*sizes, 1), "none", 2)
        execution = with_choice(execution, choice)
        try:
            build_program(config.model, config.train, make_mesh(execution.mesh), execution)
        except ShardingError:
            refused += 1
            assert estimator.refusal(choice) is not None, sizes
        else:
            assert estimator.refusal(choice) is None, sizes
    assert 5 < refused < len(meshes(8)) - 5


def test_estimates_of_an_8b_model_prefer_what_is_done_in_practice():
    """MaxText's recipe for Llama 3.1 8B on 256 chips of v6e is fsdp over all of them."""
    config, execution = published("llama/3_1_8b", 1024, 8192)
    estimator = Estimator(config, parse_topology("v6e:16x16"), execution)
    fsdp = estimator.of(Choice((1, 256, 1, 1, 1, 1), "full", 4))
    tensor = estimator.of(Choice((1, 16, 1, 1, 16, 1), "full", 4))
    data = estimator.of(Choice((256, 1, 1, 1, 1, 1), "full", 4))
    assert fsdp.seconds < tensor.seconds
    assert data.state == pytest.approx(12 * config.model.count().total, rel=0.01)
    assert fsdp.state == pytest.approx(data.state / 256, rel=0.01)
    # 4 passes instead of 3, of the closed form's operations.
    flops = 1024 * 8192 * config.model.flops(8192) * 4 / 3
    assert fsdp.compute == pytest.approx(flops / (256 * 918e12))
    # An all-gather in each of two passes and a scatter, each of all weights in 2 bytes, 4 times a
    # step, over the 4 links of a torus of two dimensions.
    gathered = 4 * 3 * 2 * config.model.count().total / (4 * 100e9)
    assert fsdp.by_axis["fsdp"] == pytest.approx(gathered, rel=0.02)


def out_of_memory(topology, sizes, needed, remat="none"):
    memory = Memory(2**30, 2**31, 0, 0, 0, 0, None, 0, int(needed), topology.chip.hbm_bytes)
    mesh = Choice(sizes, remat, 1).mesh
    chips = topology.chips
    name = str(topology)
    return Plan(
        "train", name, chips, chips, mesh, remat, 1, 256, 1, 1, 0.0, memory, 1.0, None, None
    )


def test_changes_that_would_fit_come_smallest_first():
    config, execution = published("llama/3_1_8b", 256, 4096)
    topology = parse_topology("v6e:8x8")
    estimator = Estimator(config, topology, execution)
    now = Choice((1, 64, 1, 1, 1, 1), "none", 1)
    estimate = estimator.of(now)
    # The arithmetic was right: 4 rows a chip without rematerialisation are too many.
    plan = out_of_memory(topology, now.sizes, estimate.temporaries + 3 * 2**30)
    assert plan.memory.excess > 0
    changes = fitting_changes(plan, estimator, 256)
    assert changes[0].flags == "--gin.execution.remat=full"
    limit = plan.memory.limit
    assert limit is not None and all(one.needed <= limit for one in changes)
    assert {one.flags for one in changes} > {"--gin.execution.accumulation=4"}


def test_a_row_that_is_too_much_for_a_device_is_shared():
    """Llama 3.1 70B on 256 chips of v6e, a row of 8,192 each: the compiler needed 34.3 GiB."""
    config, execution = published("llama/3_1_70b", 256, 8192)
    topology = parse_topology("v6e:16x16")
    estimator = Estimator(config, topology, execution)
    plan = out_of_memory(topology, (1, 256, 1, 1, 1, 1), 34.28 * 2**30, "full")
    first = fitting_changes(plan, estimator, 256)[0]
    shared = "--gin.mesh.fsdp=128 --gin.mesh.tensor=2 --gin.execution.accumulation=2"
    assert first.flags == shared


def test_no_change_fits_where_there_is_none():
    config, execution = published("llama/3_1_70b", 16, 4096)
    topology = parse_topology("v5e:4x4")
    estimator = Estimator(config, topology, execution)
    plan = out_of_memory(topology, (1, 16, 1, 1, 1, 1), 200 * 2**30)
    assert fitting_changes(plan, estimator, 16) == []


def test_a_search_compiles_the_best_and_sorts_them():
    config, execution = small_run()
    told = []
    found = search(config, execution, parse_topology("cpu:8"), 1, told.append)
    assert found.tried == 20 * 3 * 4  # meshes without experts, policies, divisors of 8 rows
    assert len(found.possible) < found.tried and len(told) == len(found.plans) == 1
    best: Candidate = found.possible[0]
    assert dict(found.plans[0].mesh) == best.choice.mesh and found.plans[0].fits
    assert "mesh.fsdp" in told[0]


def test_a_search_without_a_layout_says_so():
    config, execution = small_run("train.batch_size=1", "train.length=31", "model.num_heads=1")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, length=31))
    with pytest.raises(ConfigError, match=r"none of .* layouts of this run may fit on cpu:8"):
        search(config, execution, parse_topology("cpu:8"), 1, print)


def test_the_expense_of_a_run():
    """10 seconds a step on 4 chips for 36 steps: 360 seconds, 0.4 chip-hours."""
    config, _ = small_run("train.steps=36")
    topology = parse_topology("v5e:2x2")
    work = Work(1970 * 10**12, 0, (), {}, 0)
    times = Roofline(10.0, 1.0, 1.0, 0.0, {})
    plan = dataclasses.replace(
        out_of_memory(topology, (4, 1, 1, 1, 1, 1), 0),
        work=work, roofline=times, tokens_per_step=8 * 32, total_steps=36, model_flops=985e12,
    )  # fmt: skip
    assert plan.speed is not None
    assert (plan.speed.mfu, plan.speed.mfu_in_turn) == (0.5, 5 / 12)
    expense = expense_of(plan, config, 3.0, 200.0, 1.2)
    assert expense is not None and expense.tokens == 36 * 8 * 32
    assert expense.chip_hours == pytest.approx(0.4)
    assert expense.price == pytest.approx(1.2)
    assert expense.energy_kwh == pytest.approx(0.4 * 0.2 * 1.2)
    assert expense.days == pytest.approx(360 / 86_400)
