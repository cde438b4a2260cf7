"""Processes of one machine: what they are told, and how they end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgen.launch import local
from jaxgen.launch.local import run_processes


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    monkeypatch.setattr(local, "GRACE_SECONDS", 0.5)


def run(tmp_path, script: str, processes: int = 3, **options) -> int:
    file = tmp_path / "script.py"
    file.write_text("import os, sys, time\nindex = int(os.environ['JAX_PROCESS_ID'])\n" + script)
    return run_processes([sys.executable, str(file)], processes, 2, **options)


def test_each_learns_of_the_others(tmp_path):
    names = "JAX_NUM_PROCESSES JAX_COORDINATOR_ADDRESS JAX_NUM_CPU_DEVICES JAX_PLATFORMS"
    script = f"""
    told = [os.environ[name] for name in {names.split()}]
    open(f"{tmp_path}/{{index}}", "w").write(" ".join(told))
    """
    assert run(tmp_path, "if True:" + script) == 0
    told = [(tmp_path / str(index)).read_text().split() for index in range(3)]
    assert told[0] == told[1] == told[2]
    assert (told[0][0], *told[0][2:]) == ("3", "2", "cpu")


def test_gpus_are_shared_out(tmp_path):
    script = f"open(f'{tmp_path}/{{index}}', 'w').write(os.environ['JAX_LOCAL_DEVICE_IDS'])"
    assert run(tmp_path, script, platform="gpu") == 0
    assert [(tmp_path / str(index)).read_text() for index in range(3)] == ["0,1", "2,3", "4,5"]


@pytest.mark.parametrize("failing", [0, 2])
def test_when_one_fails_the_others_end_and_its_status_is_kept(tmp_path, failing):
    """They wait for it in vain, as in a collective, and do not hear SIGTERM."""
    begun = time.monotonic()
    script = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if index == {failing}:
    sys.exit(7)
time.sleep(600)
"""
    assert run(tmp_path, script) == 7
    assert time.monotonic() - begun < 300


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux tells")
def test_when_this_process_is_killed_they_hear_of_it(tmp_path):
    child = f"""
import os, signal, time
from jaxgen.process import stop_with_parent
index = os.environ["JAX_PROCESS_ID"]
def note(*_):
    open({str(tmp_path)!r} + "/ended" + index, "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, note)
stop_with_parent()
open({str(tmp_path)!r} + "/begun" + index, "w").close()
time.sleep(600)
"""
    (tmp_path / "child.py").write_text(child)
    parent = f"""
import sys
from jaxgen.launch.local import run_processes
run_processes([sys.executable, {str(tmp_path / "child.py")!r}], 2, 1)
"""
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    started = subprocess.Popen([sys.executable, "-c", parent], env=os.environ | path)
    wait_for(tmp_path, "begun*")
    started.kill()
    started.wait()
    wait_for(tmp_path, "ended*")


def wait_for(folder, pattern):
    until = time.monotonic() + 300
    while len(list(folder.glob(pattern))) < 2:
        assert time.monotonic() < until, pattern
        time.sleep(0.05)


def test_lines_of_the_others_have_their_number(tmp_path, capfd):
    assert run(tmp_path, "print('here', index, flush=True)", processes=2) == 0
    printed = capfd.readouterr()
    assert printed.out == "here 0\n" and printed.err == "[1] here 1\n"
