"""Pipeline stages: the schedule, what the compiled step does of it, and what is refused."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import tiny_dense

from jaxgen.batch import token_batch_spec
from jaxgen.errors import ShardingError
from jaxgen.models.base import check_model_fits
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.planning.compiling import compile_train_step
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.pipeline import (
    PipelineConfig,
    Schedule,
    from_microbatches,
    in_microbatches,
    make_schedule,
    run_pipeline,
)
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch
from jaxgen.training.program import build_program


@given(
    stages=st.integers(1, 6),
    rounds=st.integers(1, 4),
    groups=st.integers(1, 4),
    odd=st.integers(0, 5),
)
def test_every_microbatch_meets_every_run_of_layers_once_and_in_order(stages, rounds, groups, odd):
    count = groups * stages if rounds > 1 else groups + odd
    schedule = Schedule(stages, rounds, count)
    tick_of = {}
    for stage in range(stages):
        for turn in range(count * rounds):
            lap, microbatch = schedule.at(turn)
            tick_of[int(microbatch), int(lap) * stages + stage] = turn + stage
    assert set(tick_of) == {(m, c) for m in range(count) for c in range(stages * rounds)}
    for microbatch in range(count):
        ticks = [tick_of[microbatch, run] for run in range(stages * rounds)]
        # What a stage sends arrives a tick later, and is taken up at once.
        assert np.all(np.diff(ticks) == 1)
        assert schedule.last_ticks()[microbatch] == ticks[-1]
    assert schedule.ticks == max(tick_of.values()) + 1
    # Narayanan et al. (2104.04473, 2.2): of the time, (p - 1) / v over m + (p - 1) / v.
    assert schedule.bubble == Fraction(stages - 1, rounds) / (count + Fraction(stages - 1, rounds))


@pytest.mark.parametrize(("stages", "rounds"), [(2, 2), (4, 2), (4, 3), (8, 4), (4, 1), (2, 6)])
def test_layers_are_applied_in_order_on_the_stages_that_they_are_dealt_to(stages, rounds):
    """x -> 3 x + c does not commute, and integers are exact; statistics tell who computed what."""
    units = stages * rounds * 2
    mesh = make_mesh(MeshConfig(data=8 // stages, stage=stages))
    numbers = np.arange(1, units + 1, dtype=np.float32)
    with jax.set_mesh(mesh):
        layers = jax.device_put(numbers, jax.P("stage"))
        rows = jax.device_put(np.arange(64, dtype=np.float32), jax.P("data"))
        weights = jax.device_put(np.ones(64, np.float32), jax.P("data"))

        def run(x, layers, microbatch):
            def one(x, scanned):
                layer, number = scanned
                told = (number + 1) * jnp.sum(microbatch.rows) * microbatch.shared
                return jnp.remainder(3 * x + layer, 1009), told

            numbers = microbatch.first_unit + jnp.arange(layers.shape[0])
            return jax.lax.scan(one, x, (layers, numbers))

        @jax.jit
        def piped(layers, rows, weights):
            schedule = make_schedule(PipelineConfig(rounds=rounds), stages, 64 * stages // 8, units)
            stream, weights = in_microbatches((rows, weights), schedule.microbatches)
            x, told = run_pipeline(run, schedule, layers, stream, weights, jnp.float32(2))
            return from_microbatches(x), told

        x, told = piped(layers, rows, weights)
    expected = np.arange(64, dtype=np.float64)
    for number in numbers:
        expected = (3 * expected + number) % 1009
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(told, 2 * 64 * numbers)


def test_a_stream_in_bfloat16_has_its_gradient():
    """Powers of two are exact; XLA for CPU cannot sum it over stages as it is."""
    mesh = make_mesh(MeshConfig(data=4, stage=2))
    factors = np.array([2, 0.5, 4, 2], np.float32)

    def run(x, layers, microbatch):
        del microbatch
        return jax.lax.scan(lambda x, layer: (x * layer.astype(x.dtype), None), x, layers)

    def total(factors, rows):
        schedule = make_schedule(PipelineConfig(), 2, 4, 4)
        stream = in_microbatches(rows, schedule.microbatches)
        return jnp.sum(run_pipeline(run, schedule, factors, stream, (), ())[0], dtype=jnp.float32)

    with jax.set_mesh(mesh):
        layers = jax.device_put(factors, jax.P("stage"))
        rows = jax.device_put(jnp.ones(16, jnp.bfloat16), jax.P("data"))
        to_layers, to_rows = jax.jit(jax.grad(total, argnums=(0, 1)))(layers, rows)
    np.testing.assert_array_equal(to_layers, 16 * np.prod(factors) / factors)
    np.testing.assert_array_equal(to_rows.astype(jnp.float32), np.prod(factors))
    assert to_rows.dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2])
def test_the_compiled_step_idles_and_sends_as_theory_says(rounds):
    stages, microbatches, rows, length, layers = 4, 4, 8, 16, 8
    # Attention that may look ahead has no part left out, so that FLOPs are a closed form.
    layer = LayerConfig((BlockCausal(),))
    model = tiny_dense(layers=(layer,), num_layers=layers, tie_embeddings=False)
    config = MeshConfig(data=1, stage=stages)
    mesh = make_mesh(config, jax.devices()[:stages])
    train = TrainConfig(steps=1, length=length, batch_size=rows)
    execution = ExecutionConfig(mesh=config, pipeline=PipelineConfig(microbatches, rounds))
    program = build_program(model, train, mesh, execution)
    batch = abstract_batch(token_batch_spec(rows, length), mesh, Rules())
    text = compile_train_step(program, batch).text
    assert text is not None
    work, schedule = read_work(text, dict(mesh.shape)), Schedule(stages, rounds, microbatches)
    # The stages share the rows of the unembedding, and idle in no part of it.
    head = rows * length * 6 * model.embed_dim * model.vocab_size
    stack = rows * length * model.flops(length) - head
    expected = head + stack / (1 - schedule.bubble)
    assert stages * work.flops == pytest.approx(float(expected), rel=0.001)
    (sent,) = [one for one in work.collectives if one.kind == "collective-permute"]
    stream = 4 * (rows // microbatches) * length * model.embed_dim
    parameters = model.count().total - 2 * model.embed_dim * model.vocab_size - model.embed_dim
    # Each tick sends a microbatch on and its gradient back; layers of several rounds are dealt.
    dealt = 0 if rounds == 1 else 2 * 4 * parameters // stages
    assert (sent.axes, sent.bytes) == (("stage",), 2 * schedule.ticks * stream + dealt)


def test_stages_that_do_not_divide_the_layers_are_refused_with_those_that_do():
    mesh = make_mesh(MeshConfig(data=1, stage=3), jax.devices()[:3])
    with pytest.raises(ShardingError, match=r"'layers' has size 8, which stage=3 .*fit: \[1, 2\]"):
        check_model_fits(tiny_dense(num_layers=8), Layout(), mesh)


@pytest.mark.parametrize(
    ("config", "rows", "words"),
    [
        (PipelineConfig(rounds=3), 8, r"pipeline.rounds=3 .* 4 units .*stage=2.*\[1, 2, 4\]"),
        (PipelineConfig(1, rounds=2), 8, r"multiple of mesh.stage=2, at most 1.*\[2, 4, 8\]"),
    ],
)
def test_rounds_that_do_not_fit_say_which_would(config, rows, words):
    with pytest.raises(ShardingError, match=words):
        make_schedule(config, 2, rows, 8)


def test_microbatches_are_the_most_that_divide_the_rows():
    counts = [make_schedule(PipelineConfig(6, r), 2, 24, 8).microbatches for r in (1, 2)]
    assert counts == [6, 6]
    assert make_schedule(PipelineConfig(), 2, 20, 8).microbatches == 5
    assert make_schedule(PipelineConfig(rounds=2), 2, 20, 8).microbatches == 4
