"""A run made longer is, bit for bit, the run that was as long from the beginning."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from diagnostics.test_cooldown import BASE
from support.helpers import one_device_mesh

from jaxgen.configuration import fingerprint, load_recorded, to_gin
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.diagnostics.extending import extend
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.runs.verification import verify
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import open_data
from jaxgen.training.optimizers.narrow_state import (
    convert_state,
    state_dtype,
    with_state_dtype,
)
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine, WarmupStableDecay


def with_train(**changes):
    return dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, **changes))


@pytest.mark.slow
def test_the_longer_run_is_as_if_it_had_never_been_shorter(tmp_path):
    devices = jax.devices()[:1]
    execution = ExecutionConfig(checkpoint_every=2, keep_checkpoints=9, trackers=())
    decaying = WarmupStableDecay(peak=0.01, warmup="2 steps", decay="50%")
    run(with_train(steps=8, schedule=decaying), tmp_path / "short", execution, devices, False)
    config, step = extend(tmp_path / "short", tmp_path / "longer", 12)
    assert step == 4  # The decay of the short one began then.
    assert config.train.steps == 12
    assert config.train.schedule == dataclasses.replace(decaying, warmup=2, decay=6)
    run(config, tmp_path / "longer", execution, devices, False)
    run(config, tmp_path / "alone", execution, devices, False)
    mesh = make_mesh(MeshConfig(data=1), devices)
    with jax.set_mesh(mesh):
        ends = [restore(tmp_path / name, mesh).model for name in ("longer", "alone")]
    for one, other in zip(*(jax.tree.leaves(end) for end in ends), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigError, match="no longer"):
        extend(tmp_path / "short", tmp_path / "x", 8)


@pytest.mark.slow
def test_what_cannot_be_made_longer_is_refused(tmp_path):
    devices = jax.devices()[:1]
    execution = ExecutionConfig(checkpoint_every=8, keep_checkpoints=1, trackers=())
    decaying = WarmupStableDecay(peak=0.01, warmup="2 steps", decay="50%")
    for name, schedule in (("late", decaying), ("cosine", WarmupCosine())):
        run(with_train(steps=8, schedule=schedule), tmp_path / name, execution, devices, False)
    with pytest.raises(CheckpointError, match=r"decays from step 4 on.*\[8\] only"):
        extend(tmp_path / "late", tmp_path / "x", 20)
    with pytest.raises(ConfigError, match="WarmupCosine has no part at a constant rate"):
        extend(tmp_path / "cosine", tmp_path / "x", 20)


WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"]
TEXTS = tuple(
    {"text": " ".join(WORDS[(3 * n + k) % len(WORDS)] for k in range(5 + n % 7))}
    for n in range(400)
)
DOCUMENTS = Mixture("m", (Task("words", InMemory(TEXTS, 0.1)),))
LONGER = ("train.length=64", "train.batch_size=4")


SHORT = dataclasses.replace(
    BASE,
    mixture=DOCUMENTS,
    train=dataclasses.replace(
        BASE.train, steps=20, length=32, batch_size=8, schedule=WarmupCosine(0.03, 2, "40 steps")
    ),
)
"""A run over documents in rows of 32 tokens, whose rate is far from constant."""


@pytest.fixture
def short(tmp_path):
    """Its directory, as it would be at its end."""
    directory, mesh = RunDirectory(tmp_path / "short"), one_device_mesh()
    directory.prepare()
    directory.config_file.write_text(to_gin(SHORT))
    program = build_program(SHORT.model, SHORT.train, mesh)
    with jax.set_mesh(mesh), Checkpoints(directory.checkpoints) as checkpoints:
        checkpoints.save(20, program.fresh_state(), {"step": 20})
    return directory.path


def test_a_stage_of_longer_rows_reads_on_where_the_shorter_ones_stopped(short, tmp_path):
    (short / "imported").mkdir()
    (short / "imported" / "config.json").write_text("{}")
    config, step = extend(short, tmp_path / "stage", 30, bindings=LONGER)
    # What an import was given, for an export of the stage.
    assert (tmp_path / "stage" / "imported" / "config.json").read_text() == "{}"
    assert step == 20 and config.train.length == 64 and config.name == f"{SHORT.name}-30"
    for at in (20, 25, 29):
        # The same tokens that the shorter rows would have had.
        ours, theirs = (open_data(one.mixture, one.train, 30).batch(at) for one in (config, SHORT))
        assert ours.tokens.shape == (4, 64) and theirs.tokens.shape == (8, 32)
        np.testing.assert_array_equal(ours.targets.ravel(), theirs.targets.ravel())


@pytest.mark.slow
def test_a_stage_goes_on_with_loss_and_moments_and_is_resumed(tmp_path):
    folder, stage, one = tmp_path / "short", tmp_path / "stage", jax.devices()[:1]
    execution = ExecutionConfig(checkpoint_every=5, log_every=1, keep_checkpoints=9, trackers=())
    run(SHORT, folder, execution, one, False)
    config, _ = extend(folder, stage, 30, bindings=LONGER)
    record = run(config, stage, execution, one, False).record
    assert record["extended_from"]["step"] == 20
    losses = [row["loss"] for row in read_metrics(folder / "metrics.jsonl")]
    rows = read_metrics(stage / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(21, 31))
    # It begins where the run before has come to, far from where that began.
    assert abs(rows[0]["loss"] - losses[-1]) < 0.2 * (losses[0] - losses[-1])
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        end = restore(stage, mesh).model
    # Stopped in its middle and started again, it comes to the same end.
    for step in (25, 30):
        shutil.rmtree(stage / "checkpoints" / str(step))
    RunDirectory(stage).write_record(record | {"finished": False})
    again = run(config, stage, execution, one, False).record
    assert again["extended_from"] == record["extended_from"]
    starts = (stage / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in starts] == [20, 20]
    with jax.set_mesh(mesh):
        jax.tree.map(np.testing.assert_array_equal, restore(stage, mesh).model, end)


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        (["train.length=64"], r"has read 5,120 tokens, .* would have read 10,240"),
        (["model.mlp_dim=16"], r"of shape \(.*give it the model"),
        (["train.optimizer=@lion()"], "the optimizer of the run before"),
        (["byte_codec.special=@special_tokens()"], "the same codec"),
    ],
)
def test_a_stage_that_cannot_continue_is_refused(short, tmp_path, bindings, words):
    with pytest.raises(ConfigError, match=words):
        extend(short, tmp_path / "x", 30, bindings=bindings)
    assert not (tmp_path / "x").exists()


PRECISE = dataclasses.replace(
    BASE,
    model=dataclasses.replace(BASE.model, embed_dim=32, mlp_dim=32),
    train=dataclasses.replace(BASE.train, steps=24, schedule=WarmupCosine(0.01, 2)),
)
NARROW = ("train.optimizer=@narrow_state()", "narrow_state.optimizer=@adamw()")
DTYPES = {
    "float32": ("train.optimizer=@adamw()",),
    "bfloat16": (*NARROW, "narrow_state.dtype='bfloat16'"),
    "int8": (*NARROW, "narrow_state.dtype='int8'"),
}
EVERY = ExecutionConfig(checkpoint_every=8, log_every=1, keep_checkpoints=9, trackers=())


def losses_of(folder):
    return {row["step"]: row["loss"] for row in read_metrics(RunDirectory(folder).metrics_file)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Returns the losses of a whole run in a precision, and its folder as it was at step 16."""

    @functools.cache
    def trained(dtype):
        folder = tmp_path_factory.mktemp("precision") / dtype
        optimizer = with_state_dtype(PRECISE.train.optimizer, dtype)
        train = dataclasses.replace(PRECISE.train, optimizer=optimizer)
        config = dataclasses.replace(PRECISE, train=train)
        record = run(config, folder, EVERY, jax.devices()[:1], False).record
        shutil.rmtree(folder / "checkpoints" / "24")
        RunDirectory(folder).write_record(record | {"finished": False})
        return folder, losses_of(folder)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [(before, after) for before in DTYPES for after in DTYPES if before != after],
)
def test_a_run_goes_on_with_moments_of_another_precision(undisturbed, tmp_path, before, after):
    folder, losses = undisturbed(before)
    config, step = extend(folder, tmp_path / "on", 24, bindings=DTYPES[after])
    assert (step, state_dtype(config.train.optimizer)) == (16, after)
    assert fingerprint(config) != fingerprint(load_recorded(folder / "config.gin"))
    # On another mesh at once.
    two = dataclasses.replace(EVERY, mesh=MeshConfig(data=1, fsdp=2))
    run(config, tmp_path / "on", two, jax.devices()[:2], False)
    found = losses_of(tmp_path / "on")
    assert list(found) == list(range(17, 25))
    # The first loss is of the parameters alone, and the updates after it are close.
    assert found[17] == pytest.approx(losses[17], rel=1e-5)
    is_coarse = "int8" in (before, after)
    for at, loss in found.items():
        assert loss == pytest.approx(losses[at], rel=0.03 if is_coarse else 0.005)
    # Both kinds of checkpoint are read, and what was saved is whole.
    assert set(verify(RunDirectory(tmp_path / "on")).values()) == {""}
    program = build_program(config.model, config.train, one_device_mesh())
    with Checkpoints(tmp_path / "on" / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(program.abstract_state(), 24)
    moments = [leaf for leaf in jax.tree.leaves(state.optimizer_state) if leaf.ndim == 2]
    assert after in {leaf.dtype.name for leaf in moments}


def test_moments_survive_the_way_to_another_precision_and_back():
    moments = {"mu": jax.random.normal(jax.random.key(1), (8, 64)) * 1e-3}
    step = jax.numpy.int32(7)
    for dtype, allowed in (("bfloat16", 2**-7), ("int8", 0.33)):
        narrow = convert_state(moments, "float32", dtype, step)
        back = convert_state(narrow, dtype, "float32", step)
        large = np.abs(moments["mu"]) > 1e-7
        error = np.abs(back["mu"] / moments["mu"] - 1)[large]
        assert 0 < error.max() < allowed
        # What is narrow already is not changed again.
        again = convert_state(narrow, dtype, dtype, step)
        if dtype == "bfloat16":
            jax.tree.map(np.testing.assert_array_equal, again, narrow)
