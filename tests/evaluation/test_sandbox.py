"""Candidates pass or fail their tests, and cannot use what they may not."""

import subprocess
import time
from pathlib import Path

import pytest

from jaxgen.data.generated import CodeInfilling
from jaxgen.errors import ConfigError
from jaxgen.evaluation.sandbox import Limits, Outcome, end, run_candidate

FINE = ["assert f(2) == 4"]


def test_a_right_program_passes():
    assert run_candidate("def f(x):\n    return 2 * x\n", [*FINE, "assert f(0) == 0"]) == Outcome(
        "passed"
    )


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(x):\n    return x\n", "test 'assert f(2) == 4': the assertion is false"),
        ("def f(x)\n    return x\n", "SyntaxError"),
        ("def f(x):\n    return y\n", "NameError"),
        ("def f(x):\n    return f(x)\n", "RecursionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import os\nos._exit(0)", "exit code 0 before its tests"),
        ("f = lambda x: 4\nx = bytearray(2**32)", "MemoryError"),
        ("x = []\nwhile True: x.append(bytes(2**20))", "MemoryError"),
        ("import os\nos.fork()", "os.fork is refused"),
        ("import subprocess\nsubprocess.run(['true'])", "refused"),
        ("import os\nos.system('true')", "os.system is refused"),
        ("import os\nos.execv('/bin/true', ['true'])", "os.exec is refused"),
        ("import _posixsubprocess", "importing _posixsubprocess is refused"),
        ("import socket\nsocket.socket()", "socket.__new__ is refused"),
        ("import ctypes\nctypes.CDLL(None)", "refused"),
        ("open('big', 'wb').write(bytes(2**22))", "File too large"),
        ("\ud800", "UnicodeEncodeError"),
    ],
)  # fmt: skip
def test_what_fails_says_why(program, reason):
    outcome = run_candidate(program, FINE, Limits(memory_bytes=256 * 2**20))
    assert outcome.status == "failed" and reason in outcome.reason


def test_what_does_not_end_is_killed():
    start = time.monotonic()
    outcome = run_candidate("while True: pass", FINE, Limits(seconds=0.5))
    assert outcome == Outcome("timeout", "not done after 0.5 s")
    sleeper = "import time\ntime.sleep(900)"
    assert run_candidate(sleeper, [], Limits(seconds=0.5)).status == "timeout"
    assert time.monotonic() - start < 600


def test_files_are_written_in_the_own_folder_alone(tmp_path):
    inside = "open('a.txt', 'w').write('x')\nassert open('a.txt').read() == 'x'\n"
    assert run_candidate(inside, []).status == "passed"
    target = tmp_path / "target.txt"
    target.write_text("kept")
    for program in (
        f"open({str(target)!r}, 'w').write('x')",
        f"import os\nos.open({str(target)!r}, os.O_WRONLY)",
        f"import os\nos.remove({str(target)!r})",
        f"import os\nos.rename({str(target)!r}, 'mine')",
        f"import os\nos.symlink({str(tmp_path)!r}, 'out')\nopen('out/new', 'w')",
        f"import shutil\nshutil.rmtree({str(tmp_path)!r})",
    ):
        outcome = run_candidate(program, [])
        assert outcome.status == "failed" and "refused" in outcome.reason
    assert target.read_text() == "kept" and list(tmp_path.iterdir()) == [target]


def test_children_are_killed_too(tmp_path):
    shell = f"sleep 60 & echo $! > {tmp_path}/child; sleep 60"
    process = subprocess.Popen(["sh", "-c", shell], start_new_session=True)
    child = tmp_path / "child"
    while not (child.exists() and child.read_text().strip()):
        time.sleep(0.01)
    end(process)
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    deadline = time.monotonic() + 60
    # Whoever adopts it may be slow to bury it: a dead process is Z, or gone.
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child still runs"


def test_the_environment_is_not_the_users(monkeypatch):
    monkeypatch.setenv("SECRET", "known")
    assert run_candidate("import os\nassert 'SECRET' not in os.environ", []).status == "passed"


def test_nothing_is_left_behind():
    folder = "import os\nraise ValueError(os.getcwd())"
    used = run_candidate(folder, []).reason.split(": ")[-1]
    assert "jaxgen-candidate-" in used and not Path(used).exists()


def test_infilled_code_is_scored_by_running_it():
    for record in CodeInfilling().records_by_index("heldout").__getitems__(range(8)):
        correct = record["prefix"] + record["answer"] + record["suffix"]
        assert run_candidate(correct, record["tests"]).status == "passed"
    wrong = record["prefix"] + "0" + record["suffix"]
    assert run_candidate(wrong, record["tests"]).status == "failed"


def test_limits_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="seconds=0"):
        Limits(seconds=0)
