"""Losses that diverge: skipped, gone back from, left out, and all of it again on a replay."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import tiny_dense
from support.rhythms import Poisoned, Rhythms

from jaxgen.errors import ConfigError, JaxgenWarning, NotFiniteError
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.files import read_rows
from jaxgen.runs.checkpoints import flatten
from jaxgen.runs.config import RunConfig
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.batch_sizes import LinearRamp
from jaxgen.training.config import TrainConfig
from jaxgen.training.divergence import Divergence, Guard, Skip, data_step, read_batches
from jaxgen.training.execution import ExecutionConfig


def steps_until_bad(guard, losses):
    """Returns the steps, counted from 1, after which the guard would go back, and its reasons."""
    for step, loss in enumerate(losses, start=1):
        guard.see(step, loss, np.isfinite(loss))
        if guard.bad_steps is not None:
            return step, guard.bad_steps
    return None


def test_a_few_steps_that_are_not_finite_are_borne():
    guard = Guard(Divergence(max_skipped_updates=2))
    assert steps_until_bad(guard, [3.0, np.nan, np.inf, 2.9, np.nan, np.nan]) is None
    guard = Guard(Divergence(max_skipped_updates=2))
    assert steps_until_bad(guard, [3.0, 2.9, np.nan, np.nan, np.nan]) == (5, (3, 5))
    assert steps_until_bad(Guard(Divergence(max_skipped_updates=0)), [3.0, np.nan]) == (2, (2, 2))


def test_a_spike_is_told_from_noise_and_from_a_fall():
    noise = np.random.default_rng(0).normal(size=400)
    fall = 3 + 4 * np.exp(-np.arange(400) / 60) + 0.05 * noise
    settings = Divergence(spike=8.0, window=64, patience=3)
    assert steps_until_bad(Guard(settings), fall) is None
    spike = fall.copy()
    spike[300:304] += 2
    assert steps_until_bad(Guard(settings), spike) == (303, (301, 303))
    spike[301] = fall[301]  # Two spikes in a row are not three.
    assert steps_until_bad(Guard(settings), spike) is None
    # A single step that is not finite belongs to the spike around it.
    spike[301] = np.nan
    assert steps_until_bad(Guard(settings), spike) == (304, (301, 304))


def test_a_guard_goes_on_from_its_record():
    losses = [*np.linspace(3, 2.8, 40), 9.0, 9.0, 9.0]
    settings = Divergence(spike=6.0, window=32, patience=3)
    whole = Guard(settings)
    for cut in (10, 41, 42):
        before = Guard(settings)
        assert steps_until_bad(before, losses[:cut]) is None
        after = Guard(settings, before.to_record())
        for step, loss in enumerate(losses[cut:], start=cut + 1):
            after.see(step, loss, True)
        assert after.bad_steps == (41, 43)
    assert steps_until_bad(whole, losses) == (43, (41, 43))


SKIPS = st.builds(Skip, st.integers(0, 12), st.integers(1, 5))


@given(st.lists(SKIPS, max_size=4), st.integers(0, 15))
def test_what_is_left_out_is_read_by_nobody_and_the_rest_once(skips, first):
    order = [data_step(step, skips) for step in range(30)]
    assert sorted(set(order)) == order
    left_out = set(range(order[-1])) - set(order)
    assert len(left_out) == sum(skip.count for skip in skips)

    class Numbers:
        def iterate(self, first_step):
            return itertools.count(first_step)

    numbers: Any = Numbers()
    read = itertools.islice(read_batches(numbers, first, skips), 30 - first)
    assert list(read) == order[first:]


def test_batches_that_grow_cannot_be_left_out():
    ramp = LinearRamp(start=4, increment=4, tokens=2000)
    with pytest.raises(ConfigError, match=r"after step 1 cannot .*batch_ramp"):
        TrainConfig(steps=90, batch_size=16, length=16, batch_ramp=ramp, skip_batches=(Skip(1, 2),))


def config(data=None, steps=24, **train):
    return RunConfig(
        tiny_dense(vocab_size=320),
        Rhythms() if data is None else data,
        TrainConfig(steps=steps, batch_size=8, length=24, **train),
        evaluation=EvaluationConfig(num_batches=1, batch_size=8),
    )


EXECUTION = ExecutionConfig(log_every=2, checkpoint_every=4, keep_checkpoints=3, trackers=())
GUARDED = Divergence(max_skipped_updates=1)


def parameters_of(folder, mesh):
    with jax.set_mesh(mesh):
        return jax.device_get(flatten(restore(folder, mesh).model))


def start(data, folder, mesh=None, execution=EXECUTION, **train):
    execution = dataclasses.replace(execution, mesh=mesh or MeshConfig())
    devices = jax.devices() if mesh else jax.devices()[:1]
    run(config(data, **train), folder, execution, devices, show_progress=False)
    return parameters_of(folder, make_mesh(execution.mesh, devices))


def assert_same(one, other):
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def events(folder):
    return [row for row in read_rows(RunDirectory(folder).history_file) if "event" in row]


@pytest.mark.filterwarnings("ignore::jaxgen.errors.JaxgenWarning")
def test_an_update_that_is_not_finite_is_skipped_and_its_row_is_named(tmp_path):
    mesh = MeshConfig(fsdp=4, tensor=2)
    execution = dataclasses.replace(EXECUTION, accumulation=2)
    data = Poisoned(poison=(9,))
    with pytest.warns(JaxgenWarning, match=r"rhythms is not finite at step 10 .*rows: 5"):
        start(data, tmp_path / "a", mesh, execution, divergence=GUARDED)
    (event,) = events(tmp_path / "a")
    assert event["rows"] == [5] and event["batch"] == 9 and event["event"] == "skipped update"
    rows = read_metrics(RunDirectory(tmp_path / "a").metrics_file)
    assert [row["step"] for row in rows if row.get("skipped_updates")] == [10]
    assert all(np.isfinite(row["loss"]) for row in rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxgen.errors.JaxgenWarning")
def test_a_run_goes_back_and_leaves_out_what_diverged_and_so_does_a_replay(tmp_path):
    data = Poisoned(poison=(9, 10, 11), poisoned_row=0)
    found = start(data, tmp_path / "a", divergence=GUARDED)
    # The second of steps 10 and 11 is one too many: back to 8, and the batches of 9 to 11 are out.
    (*_, rewind) = [event for event in events(tmp_path / "a") if event["event"] == "rewind"]
    assert rewind["steps"] == [10, 11] and rewind["skip"] == [8, 3]
    # The next batch is not finite either, which is borne.
    skipped = [event for event in events(tmp_path / "a") if event["event"] == "skipped update"]
    assert [(event["step"], event["batch"]) for event in skipped] == [(10, 9), (11, 10), (9, 11)]
    replay = start(data, tmp_path / "b", divergence=GUARDED, skip_batches=(Skip(8, 3),))
    assert_same(found, replay)
    rows = [read_metrics(RunDirectory(tmp_path / name).metrics_file) for name in "ab"]
    for one, other in zip(*rows, strict=True):
        assert one["loss"] == other["loss"] and one["step"] == other["step"]
    # Started again from before the divergence, it keeps to what it has left out.
    directory = RunDirectory(tmp_path / "a")
    record = directory.read_record()
    for step in (20, 24):
        (directory.checkpoints / str(step)).rename(directory.path / f"away-{step}")
    directory.write_record(record | {"finished": False})
    assert_same(found, start(data, tmp_path / "a", divergence=GUARDED))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxgen.errors.JaxgenWarning")
def test_going_back_is_bounded_and_no_other_data_are_lost(tmp_path):
    data = Poisoned(poison=tuple(range(9, 40)), poisoned_row=0)
    settings = Divergence(max_skipped_updates=0, max_rewinds=2)
    with pytest.raises(NotFiniteError, match=r"went back 2 times .*max_rewinds=2"):
        start(data, tmp_path / "a", divergence=settings)
    assert RunDirectory(tmp_path / "a").saved_steps() == [4, 8]
    kinds = [event["event"] for event in events(tmp_path / "a")]
    assert kinds.count("rewind") == 2


@pytest.mark.slow
def test_without_a_rule_the_bare_curve_is_shown_and_its_end_told(tmp_path):
    with pytest.raises(NotFiniteError, match=r"not finite at step 10.*train\.divergence"):
        start(Poisoned(poison=(9,)), tmp_path / "a")
    assert_same(
        start(Rhythms(), tmp_path / "plain"), start(Rhythms(), tmp_path / "b", divergence=GUARDED)
    )
