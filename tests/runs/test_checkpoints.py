"""Saved, restored elsewhere, damaged."""

import contextlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import MESHES, one_device_mesh, tiny_dense

from jaxgen.errors import CheckpointError
from jaxgen.files import append_rows, read_rows
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.digests import digest, digests
from jaxgen.training.program import build_program


def program_on(mesh):
    return build_program(tiny_dense(), TrainConfig(steps=1, length=32), mesh)


def save(folder, mesh, steps=(1,)):
    with jax.set_mesh(mesh):
        state = program_on(mesh).fresh_state()
        with Checkpoints(folder, keep=3) as checkpoints:
            for step in steps:
                checkpoints.save(step, state, {"step": step})
    return {name: np.asarray(array) for name, array in flatten(state).items()}


def restore(folder, mesh, step=None):
    with jax.set_mesh(mesh), Checkpoints(folder) as checkpoints:
        state, record = checkpoints.restore(program_on(mesh).abstract_state(), step)
    return flatten(state), record


def test_a_checkpoint_comes_back_on_another_mesh(tmp_path):
    saved = save(tmp_path / "c", make_mesh(MESHES["fsdp"]))
    for mesh in (one_device_mesh(), make_mesh(MESHES["tensor"])):
        restored, record = restore(tmp_path / "c", mesh)
        assert record["step"] == 1
        for name, array in saved.items():
            np.testing.assert_array_equal(np.asarray(restored[name]), array)
        assert restored["model.embedding.table"].sharding.mesh == mesh


@pytest.mark.slow
def test_a_flipped_byte_is_noticed_and_the_way_out_named(tmp_path):
    folder = tmp_path / "c"
    save(folder, one_device_mesh(), steps=(1, 2))
    data = max((folder / "2").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    for position in range(len(content) // 4, len(content), len(content) // 4):
        content[position] ^= 0x10
    data.write_bytes(bytes(content))
    with pytest.raises(CheckpointError) as error:
        restore(folder, one_device_mesh())
    for word in ("step 2", "Move", str(folder / "2"), "goes on from step 1"):
        assert word in str(error.value)
    assert restore(folder, one_device_mesh(), step=1)[1]["step"] == 1


def test_a_digest_that_differs_names_the_array(tmp_path):
    folder = tmp_path / "c"
    save(folder, one_device_mesh())
    path = folder / "1" / "record" / "metadata"
    record = json.loads(path.read_text())
    record["digests"]["model.embedding.table"] ^= 1
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"model\.embedding\.table does not have the digest"):
        restore(folder, one_device_mesh())


def test_a_missing_checkpoint_lists_those_there_are(tmp_path):
    save(tmp_path / "c", one_device_mesh())
    with pytest.raises(CheckpointError, match=r"step 7.*\[1\]"):
        restore(tmp_path / "c", one_device_mesh(), step=7)


def test_a_save_that_fails_says_so_and_leaves_the_earlier_one(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    save(folder, one_device_mesh())
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        state = program_on(mesh).fresh_state()
        with Checkpoints(folder) as checkpoints:

            def full(*arguments, **keywords):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(checkpoints._writer._manager, "save", full)
            with pytest.raises(CheckpointError, match=r"No space left.*GB are free.*\[1\]"):
                checkpoints.save(2, state, {"step": 2})
    assert restore(folder, mesh)[1]["step"] == 1


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    dtype=st.sampled_from(["float32", "bfloat16", "int32", "bool"]),
    data=st.data(),
)
def test_one_changed_element_changes_the_digest(shape, dtype, data):
    values = np.random.default_rng(0).integers(0, 2, shape)
    place = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    changed = values.copy()
    changed[place] ^= 1
    digests = [int(digest(jax.numpy.asarray(v, dtype))) for v in (values, changed, values)]
    assert digests[0] != digests[1] and digests[0] == digests[2]


def test_a_digest_does_not_depend_on_the_layout():
    array = jax.random.normal(jax.random.key(0), (16, 8))
    mesh = make_mesh(MESHES["tensor"])
    split = jax.device_put(array, jax.NamedSharding(mesh, jax.P("data", "tensor")))
    with jax.set_mesh(mesh):
        assert int(jax.jit(digest)(split)) == int(digest(array))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (7,), (63,), (64,), (5, 13), (4099,), (3, 41, 67)])
def test_a_digest_is_the_sum_that_checkpoints_of_all_versions_have(shape, dtype):
    """By numpy in Python's integers, as its definition says; however it is added up."""
    values = np.random.default_rng(0).normal(size=shape) * 50
    array = np.asarray(jax.numpy.asarray(values, dtype))
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    total = 0
    for index, bits in enumerate(array.reshape(-1).view(kind).tolist()):
        weight = (index * 0x9E3779B1 % 2**32 ^ index >> 15) | 1
        total += bits * weight
    for mesh in (None, one_device_mesh(), make_mesh(MESHES["tensor"])):
        with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
            given = array if mesh is None else jax.device_put(array, jax.P())
            assert int(jax.jit(digest)(given)) == total % 2**32
        # Nor need a mesh be set.
        assert int(digests({"it": jax.numpy.asarray(given)})["it"]) == total % 2**32


def test_a_row_cut_short_by_a_crash_is_left_out_and_closed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    append_rows(path, [{"step": 2, "loss": 1.5}, {"step": 1, "loss": 1.9}])
    assert read_rows(path)[-1] == {"step": 1, "loss": 1.9}
    assert read_metrics(path) == [{"step": 1, "loss": 1.9}, {"step": 2, "loss": 1.5}]


def test_a_second_process_is_refused(tmp_path):
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    with first.lock(), pytest.raises(CheckpointError, match="another process"), second.lock():
        pass
    with second.lock():
        pass


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"run\.json"):
        RunDirectory(Path(tmp_path)).read_record()
