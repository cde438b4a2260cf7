"""The ramp's closed form against a run of steps, one by one."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import one_device_mesh, tiny_dense

from jaxgen.configuration import load
from jaxgen.errors import ConfigError, ShardingError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.batch_sizes import LinearRamp, SteppedRamp, batch_sizes
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import open_data
from jaxgen.training.loop import fit
from jaxgen.training.program import build_program


def megatron(start, increment, full, ramp_rows, steps):
    """Batch sizes of Megatron-LM's --rampup-batch-size, by counting rows."""
    seen, sizes = 0, []
    increments = (full - start) // increment
    for _ in range(steps):
        size = full
        if increments and seen < ramp_rows:
            size = start + int(seen / (ramp_rows / increments)) * increment
        sizes.append(min(size, full))
        seen += sizes[-1]
    return sizes


@given(
    start=st.integers(1, 20),
    increment=st.integers(1, 9),
    increments=st.integers(0, 12),
    ramp_rows=st.integers(1, 3000),
)
def test_a_linear_ramp_is_that_of_counting_rows(start, increment, increments, ramp_rows):
    full = start + increment * increments
    sizes = batch_sizes(full, 8, LinearRamp(start, increment, 8.0 * ramp_rows))
    expected = megatron(start, increment, full, ramp_rows, 150)
    assert [sizes.at(step) for step in range(150)] == expected
    rows = np.cumsum([0, *expected])
    assert [sizes.rows_before(step) for step in range(151)] == rows.tolist()
    for wanted in (1, 17, rows[100] - 1, rows[100], rows[100] + 1):
        steps = sizes.steps_for_rows(wanted)
        assert sizes.rows_before(steps) >= wanted > sizes.rows_before(steps - 1)


def test_palms_and_blooms_ramps():
    palm = batch_sizes(2048, 2048, SteppedRamp((512, 1024), (50_000, 115_000)))
    assert [palm.at(s) for s in (0, 49_999, 50_000, 114_999, 115_000)] == [
        512, 512, 1024, 1024, 2048,
    ]  # fmt: skip
    # 255k steps at these sizes are 780 billion tokens (PaLM, 2204.02311, table 21).
    assert round(palm.rows_before(255_000) * 2048 / 1e9) in range(770, 790)
    bloom = batch_sizes(2048, 2048, LinearRamp(192, 16, 9_765_625 * 2048))
    assert bloom.at(0) == 192 and bloom.at(10**6) == 2048
    full_from = bloom.stages[-1]
    assert 9_765_625 <= full_from.first_row < 9_765_625 + 2048


def test_tokens_of_a_ramp_count_in_durations():
    train = TrainConfig(
        steps="800 tokens", batch_size=8, length=10, batch_ramp=SteppedRamp((2,), (10,))
    )
    assert train.total_steps(1) == 10 + 8  # 200 tokens in ten steps, then 600 in steps of 80
    assert train.tokens_before(18) == 840


def test_what_does_not_fit_is_named_before_anything_is_compiled():
    with pytest.raises(ConfigError, match=r"increment=5 does not lead from .*start=2 to .*=8"):
        TrainConfig(steps=1, batch_size=8, batch_ramp=LinearRamp(2, 5, 100))
    with pytest.raises(ConfigError, match=r"a batch of 6 in train\.batch_ramp"):
        ExecutionConfig(accumulation=2).microbatch_size(
            TrainConfig(steps=1, batch_size=8, batch_ramp=LinearRamp(4, 2, 1e5))
        )
    with pytest.raises(ConfigError, match=r"batch_size=8 does not divide into .*accumulation=3"):
        ExecutionConfig(accumulation=3).microbatch_size(TrainConfig(steps=1, batch_size=8))
    train = TrainConfig(steps=1, batch_size=16, length=32, batch_ramp=LinearRamp(4, 12, 1e4))
    with pytest.raises(ShardingError, match="= 4 is not divided by the mesh axes data=8"):
        build_program(tiny_dense(), train, make_mesh(MeshConfig(data=8)))


@pytest.mark.slow
def test_a_run_stopped_in_the_ramp_goes_on_as_if_it_had_not(tmp_path):
    mixture = load(["mixtures/quickstart.gin"], root="mixture")
    train = TrainConfig(
        steps=8, batch_size=8, length=32, batch_ramp=SteppedRamp((2, 4), (3, 6)),
    )  # fmt: skip
    execution = ExecutionConfig(accumulation=2, log_every=1, checkpoint_every=4)

    class Rows:
        def __init__(self):
            self.rows = []

        def log(self, row):
            self.rows.append(row)

        def close(self):
            pass

    def trained(folder, steps):
        mesh, rows = one_device_mesh(), Rows()
        program = build_program(tiny_dense(vocab_size=320), train, mesh, execution)
        program = dataclasses.replace(program, total_steps=steps)
        with jax.set_mesh(mesh), Checkpoints(folder) as checkpoints:
            data = open_data(mixture, train, steps)
            return fit(program, data, checkpoints, [rows]), rows.rows

    whole, rows = trained(tmp_path / "whole", 8)
    trained(tmp_path / "cut", 4)
    resumed, rest = trained(tmp_path / "cut", 8)
    assert [row["tokens"] for row in rows] == [64, 128, 192, 320, 448, 576, 832, 1088]
    assert [row["loss"] for row in rest] == [row["loss"] for row in rows[4:]]
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("steps", [10**20, "1e30 tokens", "1e20x", 2**62])
def test_a_run_longer_than_can_be_counted_is_refused(steps):
    train = TrainConfig(steps=steps, batch_size=4, length=8)
    with pytest.raises(ConfigError, match=r"train\.steps=.* tokens, .* can be counted"):
        train.total_steps(100)
    assert TrainConfig(steps=2**57, batch_size=4, length=8).total_steps(100) == 2**57
