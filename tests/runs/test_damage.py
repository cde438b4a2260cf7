"""What a crash, a full disk or a bad disk does to checkpoints: told, and never taken for whole."""

import contextlib
import dataclasses
import pathlib
import shutil

import jax
import pytest
from support.disks import mounted
from support.helpers import one_device_mesh, tiny_dense

from jaxgen.errors import CheckpointError, JaxgenWarning
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.training.config import TrainConfig
from jaxgen.training.program import build_program


@pytest.fixture(scope="module")
def program():
    return build_program(tiny_dense(), TrainConfig(steps=9, length=32), one_device_mesh())


@pytest.fixture(scope="module")
def state(program):
    return program.fresh_state()


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A folder with the checkpoints of steps 1 and 2; copy it before changing it."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, dataclasses.replace(state, step=state.step + step), {"at": step})
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def restore(folder, program, step=None):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(program.abstract_state(), step)


def assert_read_as_saved(folder, program, step):
    state, record = restore(folder, program, step)
    assert int(state.step) == step == record["at"]


@pytest.mark.parametrize("place", [0.01, 0.3, 0.5, 0.77, 0.99])
def test_one_flipped_byte_is_found_and_the_way_on_is_named(place, copy, program, state):
    file = max((copy / "2" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x10
    file.write_bytes(content)
    try:
        restored, _ = restore(copy, program)
    except CheckpointError as error:
        message = str(error)
    else:  # A byte between arrays: it must have been of no consequence.
        saved_arrays, arrays = flatten(state.model), flatten(restored.model)
        assert all((arrays[name] == saved_arrays[name]).all() for name in saved_arrays)
        return
    assert "step 2" in message and f"Move {copy / '2'} away" in message
    assert "goes on from step 1" in message and "\n" not in message
    shutil.move(copy / "2", copy.parent / "damaged")
    assert_read_as_saved(copy, program, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "of_arrays"),
    [("lost", 1), ("lost", None), ("emptied", None)],
)
def test_a_lost_file_is_found_or_was_not_needed(how, of_arrays, copy, program):
    """Of all kinds of files, and of as many of those with arrays; None: of all."""
    files = [path for path in (copy / "2").rglob("*") if path.is_file()]
    arrays = sorted(path for path in files if path.parent.name == "d")
    others = [path for path in files if path.parent.name != "d"]
    for file in others + arrays[:of_arrays]:
        content = file.read_bytes()
        file.unlink() if how == "lost" else file.write_bytes(b"")
        with contextlib.suppress(CheckpointError):
            assert_read_as_saved(copy, program, 2)
        file.write_bytes(content)
    assert_read_as_saved(copy, program, 2)


@pytest.mark.slow
def test_training_takes_the_newest_whole_one_and_sets_the_others_aside(copy, program):
    (copy / "2" / "record" / "metadata").unlink()
    for abandoned in ("3.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp-1"):
        (copy / abandoned).mkdir()
    with (
        Checkpoints(copy, keep=2) as checkpoints,
        pytest.warns(JaxgenWarning, match=r"step 2 .*cannot be read.* moved to .*damaged-2"),
    ):
        found = checkpoints.restore_newest(program.abstract_state())
        assert found is not None
        state, record = found
        assert int(state.step) == record["at"] == 1
        # What was set aside is in the way of nothing.
        checkpoints.save(2, state, {"at": 2})
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2]
    assert (copy / "damaged-2" / "state").is_dir()
    assert not list(copy.glob("*orbax-checkpoint-tmp*"))
    for step in ("1", "2"):
        (copy / step / "record" / "metadata").write_text("{")
    with Checkpoints(copy) as checkpoints, pytest.warns(JaxgenWarning, match="damaged-2-2"):
        assert checkpoints.restore_newest(program.abstract_state()) is None


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("manifest.ocdbt", lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:]),
        ("_METADATA", lambda data: data.replace(b"embedding", b"embeddinh")),
        ("array_metadatas/process_0", lambda data: data.replace(b"param_name", b"qaram_name", 1)),
    ],
)
def test_whatever_a_reader_makes_of_changed_metadata_the_run_goes_on(file, damage, copy, program):
    """TensorStore says that it cannot decode, Orbax leaves arrays out or does not know a field."""
    path = copy / "2" / "state" / file
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with (
        Checkpoints(copy) as checkpoints,
        pytest.warns(JaxgenWarning, match=r"step 2 .* moved to .*damaged-2"),
    ):
        found = checkpoints.restore_newest(program.abstract_state())
    assert found is not None and found[1]["at"] == 1


@pytest.mark.slow
def test_what_is_out_of_reach_is_not_taken_for_damaged(copy, program, monkeypatch):
    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    with Checkpoints(copy) as checkpoints:
        monkeypatch.setattr(pathlib.Path, "read_text", refuse)
        with pytest.raises(CheckpointError, match="Permission denied"):
            checkpoints.restore_newest(program.abstract_state())
        monkeypatch.undo()
        wider = build_program(
            tiny_dense(mlp_dim=128), TrainConfig(steps=9, length=32), one_device_mesh()
        )
        with pytest.raises(CheckpointError, match="step 2"):
            checkpoints.restore_newest(wider.abstract_state())
        assert checkpoints.steps() == [1, 2]


def test_saves_that_fail_are_borne_as_often_as_they_may(copy, program, state, monkeypatch):
    with Checkpoints(copy, max_save_failures=2) as checkpoints:
        let_folders_fail(copy, monkeypatch)
        with pytest.warns(
            JaxgenWarning, match=r"[kMGT]B are free.*after 2 more that fail in a row"
        ):
            checkpoints.save(3, state, {"at": 3})
        with pytest.raises(CheckpointError, match="step 3 could not be written"):
            checkpoints.wait()  # What has to be saved must not be taken for it.
        monkeypatch.undo()
        checkpoints.save(4, state, {"at": 4})
        checkpoints.wait()
        let_folders_fail(copy, monkeypatch)
        for step, left in ((5, "2 more"), (6, "1 more")):
            with pytest.warns(JaxgenWarning, match=left):
                checkpoints.save(step, state, {"at": step})
        with pytest.raises(CheckpointError, match="step 7"):
            checkpoints.save(7, state, {"at": 7})
        monkeypatch.undo()
    assert restore(copy, program)[1]["at"] == 4


@pytest.fixture
def larger_disk(tmp_path):
    """A folder on a disk of its own, with room for some checkpoints."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_stops_the_save_and_not_the_run(larger_disk, state, program):
    size = sum(array.nbytes for array in flatten(state).values())
    with Checkpoints(larger_disk / "checkpoints", max_save_failures=3) as checkpoints:
        checkpoints.save(1, state, {"at": 1})
        checkpoints.wait()
        filler = larger_disk / "filler"
        # No room at all; then some that ends within the save.
        for left in (0, size // 2):
            free = shutil.disk_usage(larger_disk).free
            filler.write_bytes(b"x" * max(0, free - left))
            with pytest.warns(JaxgenWarning, match=r"B are free there"):
                checkpoints.save(2, state, {"at": 2})
            filler.unlink()
        checkpoints.save(3, state, {"at": 3})
        checkpoints.wait()
        assert checkpoints.steps() == [1, 3]
    assert restore(larger_disk / "checkpoints", program)[1]["at"] == 3


@pytest.mark.parametrize(
    ("written", "changed", "told"),
    [
        ('"at": 2', '"at": 3', "record does not have the digest"),
        ('"digests"', '"digestt"', "does not have the digest"),
        ('"model.embedding.table"', '"model.embedding.tabld"', "does not have the digest"),
        ("{", "[", "cannot be read"),
    ],
)
def test_the_record_is_no_less_guarded(written, changed, told, copy, program):
    file = copy / "2" / "record" / "metadata"
    assert written in file.read_text()
    file.write_text(file.read_text().replace(written, changed, 1))
    with pytest.raises(CheckpointError, match=told):
        restore(copy, program)


def test_a_save_that_was_killed_is_never_taken_for_whole(copy, program):
    half = shutil.copytree(copy / "2", copy / "3.orbax-checkpoint-tmp")
    shutil.rmtree(half / "record")
    state, _ = restore(copy, program)
    assert int(state.step) == 2


def no_space(*arguments, **more):
    raise OSError(28, "No space left on device")


def let_renames_fail(folder, monkeypatch):
    for name in ("os.rename", "os.replace", "pathlib.Path.rename", "pathlib.Path.replace"):
        monkeypatch.setattr(name, no_space)


def let_folders_fail(folder, monkeypatch):
    for name in ("os.mkdir", "os.makedirs", "pathlib.Path.mkdir"):
        monkeypatch.setattr(name, no_space)


@pytest.mark.parametrize("hinder", [let_renames_fail, let_folders_fail])
def test_a_save_that_fails_gives_one_error_and_spares_the_others(
    hinder, copy, program, state, monkeypatch
):
    with Checkpoints(copy) as checkpoints:
        hinder(copy, monkeypatch)
        with pytest.raises(CheckpointError, match="could not be written") as caught:
            checkpoints.save(3, state, {"at": 3})
            checkpoints.wait()
        monkeypatch.undo()
    message = str(caught.value)
    assert "GB are free" in message and "[1, 2]" in message and "step 3" in message
    for step in (1, 2):
        assert_read_as_saved(copy, program, step)
    with Checkpoints(copy) as checkpoints:
        checkpoints.save(3, state, {"at": 3})
    assert restore(copy, program)[1]["at"] == 3


def test_another_model_is_refused_by_its_step(saved):
    train = TrainConfig(steps=9, length=32)
    wider = build_program(tiny_dense(mlp_dim=128), train, one_device_mesh())
    with pytest.raises(CheckpointError, match="step 2"):
        restore(saved, wider)


def test_only_the_newest_are_kept(state, tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(step, state, {})
        checkpoints.wait()
        assert checkpoints.steps() == [3, 4]


def test_some_are_kept_for_good(state, tmp_path):
    with Checkpoints(tmp_path / "checkpoints", keep=2, keep_every=3) as checkpoints:
        for step in range(1, 9):
            checkpoints.save(step, state, {})
        checkpoints.wait()
        assert checkpoints.steps() == [3, 6, 7, 8]


def test_what_is_saved_is_what_was_given_though_the_buffers_are_used_again(
    state, program, tmp_path
):
    expected = jax.device_get(jax.tree.leaves(state.model))
    state = jax.tree.map(lambda x: x.copy(), state)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"at": 1})
        overwrite = jax.jit(lambda x: jax.tree.map(lambda y: y * 0 - 7, x), donate_argnums=0)
        jax.block_until_ready(overwrite(state))
    restored, _ = restore(tmp_path / "checkpoints", program)
    for found, given in zip(jax.tree.leaves(restored.model), expected, strict=True):
        assert (found == given).all()
