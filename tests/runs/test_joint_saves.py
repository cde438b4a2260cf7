"""Two real processes write checkpoints together, and the disk of one of them alone is full."""

import subprocess
import sys

import pytest
from support.processes import together

PRIVATE_MOUNTS = 'test "$JAX_PROCESS_ID" = {process} && exec unshare --mount "$@"; exec "$@"'
"""Gives one process mounts of its own, as a host has disks of its own."""

SCRIPT = """
import contextlib, os, pathlib, resource, subprocess, time, warnings
import jax
import pytest
from support.helpers import tiny_dense
from jaxgen import distributed
from jaxgen.errors import CheckpointError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.program import build_program

FOLDER = {folder!r}


@contextlib.contextmanager
def disk():
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", FOLDER], check=True)
    yield
    subprocess.run(["umount", "--lazy", FOLDER], check=True)


@contextlib.contextmanager
def size():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def folders():
    make = os.mkdir
    def refuse(path, *arguments, **more):
        if "orbax-checkpoint-tmp" in str(path):
            raise OSError(28, "No space left on device")
        make(path, *arguments, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.mkdir", refuse)
        yield


@contextlib.contextmanager
def start():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager._validate_args", fail)
        yield


@contextlib.contextmanager
def middle():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orbax.checkpoint.AsyncCheckpointer.get_temporary_path", fail)
        yield


def fail(*arguments, **more):
    raise OSError("this host is at fault")


fault = {fault} if distributed.process_index() == {process} else contextlib.nullcontext
mesh = make_mesh(MeshConfig(data=1, fsdp=2))
program = build_program(tiny_dense(), TrainConfig(steps=9, length=32), mesh)
told, seconds = [], []
with (
    jax.set_mesh(mesh),
    Checkpoints(pathlib.Path(FOLDER), keep=2, max_save_failures=2) as checkpoints,
    warnings.catch_warnings(record=True),
):
    state = program.fresh_state()
    checkpoints.save(1, state, {{"at": 1}})
    checkpoints.wait()
    for step in (2, 3):
        with fault():
            begin = time.monotonic()
            checkpoints.save(step, state, {{"at": step}})
            try:
                checkpoints.wait()
            except CheckpointError as error:
                told.append(str(error))
            seconds.append(time.monotonic() - begin)
    for step in (4, 5, 6):
        checkpoints.save(step, state, {{"at": step}})
    checkpoints.wait()
    _, record = checkpoints.restore(program.abstract_state())
    found = dict(
        told=distributed.gather(told),
        seconds=max(seconds),
        steps=distributed.gather(checkpoints.steps()),
        at=record["at"],
    )
"""


def skip_unless_mounts():
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", "/mnt"]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root on Linux may mount a small disk for one process")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "process", "cause"),
    [
        ("disk", 1, "RESOURCE_EXHAUSTED"),
        ("size", 1, "OUT_OF_RANGE"),
        ("folders", 0, "No space left on device"),
        ("start", 1, "this host is at fault"),
        ("middle", 0, "this host is at fault"),
        ("middle", 1, "this host is at fault"),
    ],
)
def test_all_processes_fail_a_save_together_and_save_again(tmp_path, fault, process, cause):
    """The processes would wait for one another in Orbax's own barrier, or its collectives."""
    wrapper = []
    if fault == "disk":
        skip_unless_mounts()
        wrapper = ["sh", "-c", PRIVATE_MOUNTS.format(process=process), "sh"]
    folder = tmp_path / "checkpoints"
    script = SCRIPT.format(folder=str(folder), fault=fault, process=process)
    found = together(tmp_path, script, 2, 1, wrapper)
    of_main, of_other = found["told"]
    assert of_main == of_other and len(of_main) == 2
    for step, message in zip((2, 3), of_main, strict=True):
        for part in (f"step {step} could not be written", f"process {process}: ", cause, "[1]"):
            assert part in message
    assert found["seconds"] < 60
    # The older ones were removed again, and nothing is left of those that failed.
    assert found["steps"] == [[5, 6], [5, 6]] and found["at"] == 6
    assert sorted(path.name for path in folder.iterdir()) == ["5", "6"]


@pytest.mark.slow
def test_a_manager_that_one_process_cannot_make_is_an_error_of_all(tmp_path):
    script = """
    import pathlib, time
    import pytest
    from jaxgen import distributed
    from jaxgen.errors import CheckpointError
    from jaxgen.runs.checkpoints import Checkpoints

    def fail(*arguments, **more):
        raise OSError("this host is at fault")

    told, begin = "", time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        if distributed.process_index() == 1:
            patch.setattr("orbax.checkpoint.checkpoint_manager._create_root_directory", fail)
        try:
            Checkpoints(pathlib.Path(%r))
        except CheckpointError as error:
            told = str(error)
    found = dict(told=distributed.gather(told), seconds=time.monotonic() - begin)
    """
    found = together(tmp_path, script % str(tmp_path / "checkpoints"), 2, 1)
    assert found["told"][0] == found["told"][1] and found["seconds"] < 60
    assert "process 1: this host is at fault" in found["told"][0]
