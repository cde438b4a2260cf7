"""tools/setup says plainly what is missing, and leaves alone what is not its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """The files a set-up reads, in a folder whose name has a space."""
    root = tmp_path / "a checkout"
    (root / "tools").mkdir(parents=True)
    for name in ("setup", "environment.py", "command.py"):
        shutil.copy(ROOT / "tools" / name, root / "tools")
    shutil.copytree(ROOT / "requirements", root / "requirements")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def run_setup(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAXGEN_PYTHON": sys.executable, **variables}
    command = [checkout / "tools" / "setup"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_an_unsuitable_python_is_named_with_the_reason(checkout):
    old = checkout / "python3"
    old.write_text("#!/bin/sh\necho 'Python 3.9, outside 3.11 to 3.14'\n")
    old.chmod(0o755)
    result = run_setup(checkout, JAXGEN_PYTHON=str(old))
    assert result.returncode == 1
    assert f"{old}: Python 3.9, outside 3.11 to 3.14" in result.stderr
    assert "sudo apt install python3 python3-venv" in result.stderr


def test_an_environment_of_someone_else_is_left_alone(checkout):
    foreign = checkout / ".venv" / "pyvenv.cfg"
    foreign.parent.mkdir()
    foreign.write_text("home = /usr/bin\n")
    result = run_setup(checkout)
    assert result.returncode == 1
    assert "was not made by tools/setup" in result.stderr
    assert foreign.read_text() == "home = /usr/bin\n"


def test_the_environment_of_another_checkout_is_not_emptied_through_a_link(checkout):
    other = checkout / "other" / ".venv"
    other.mkdir(parents=True)
    stamp = other / "jaxgen-setup.json"
    stamp.write_text('{"root": "another checkout"}')
    (checkout / ".venv").symlink_to(other)
    result = run_setup(checkout)
    assert result.returncode == 1
    assert f"is a link to {other}" in result.stderr
    assert stamp.read_text() == '{"root": "another checkout"}'


@pytest.mark.slow
def test_an_index_out_of_reach_is_named_as_the_cause(checkout):
    nowhere = "http://127.0.0.1:9/"
    settings = {"PIP_INDEX_URL": nowhere, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    result = run_setup(checkout, PIP_NO_CACHE_DIR="1", PIP_RETRIES="1", **settings)
    assert result.returncode == 1
    assert "pip cannot reach its package index" in result.stderr
    assert (checkout / ".venv" / "jaxgen-setup.json").read_text().strip() == "{}"
