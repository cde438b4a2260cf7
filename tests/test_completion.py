"""Completion on TAB: the words themselves, and each shell that is here made to ask for them."""

import os
import shutil
import subprocess
import sys

import pytest

from jaxgen.cli import _parser
from jaxgen.commands import completion

NAMES = ["train.steps", "train.seed", "model.embed_dim"]
needs = {shell: shutil.which(shell) for shell in ("bash", "zsh", "fish")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/one/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/one/config.gin").touch()
    (tmp_path / "mine.gin").touch()
    (tmp_path / "parts.py").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def complete(line: str) -> list[str]:
    return completion.completions(_parser(), line, NAMES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jaxgen tr", ["train"]),
        ("jaxgen tokenizer ", ["show", "train"]),
        ("jaxgen completion ", ["bash", "fish", "zsh"]),
        ("jaxgen train --run", ["--run_dir="]),
        ("jaxgen train --gin_", ["--gin_file="]),
        ("jaxgen train --gin.train.s", ["--gin.train.seed=", "--gin.train.steps="]),
        ("jaxgen train --gin.model.embed_dim=", []),
        ("jaxgen train --import=", ["--import=parts.py", "--import=runs/"]),
        ("jaxgen train --gin_file mine", ["mine.gin"]),
        ("jaxgen evaluate --run_dir=runs/", ["--run_dir=runs/one"]),
        ("jaxgen evaluate --run_dir runs/one/", []),
        ("jaxgen sweep --engine=s", ["--engine=slurm"]),
        ("jaxgen sweep --engine ", ["local", "ray", "slurm"]),
        ("jaxgen export --dtype=float32 --family", ["--family="]),
        ("jaxgen generate --max_tokens=", []),
        ("jaxgen models show llama/3_1_4", ["llama/3_1_405b"]),
        ("jaxgen tasks show dyc", ["dyck"]),
        ("jaxgen config diff mine.gin runs/quicks", ["runs/quickstart.gin"]),
        ("jaxgen config diff mine.gin mine.gin ", []),
        ("jaxgen config check mine.gin no such files mine", ["mine.gin"]),
        ("jaxgen sweep no", ["notes.txt"]),
        ("jaxgen train --gin_file='mi", []),
    ],
)
def test_words(folder, line, expected):
    assert complete(line) == expected


def test_every_command_is_offered():
    parser = _parser()
    (commands,) = [list(action.choices) for action in parser._actions if action.choices is not None]
    assert complete("jaxgen ") == sorted(commands)
    assert all(not word.startswith("-") for word in complete("jaxgen "))
    assert {"--run_dir=", "--gin_file=", "--gin.", "--import=", "--help"} <= set(
        complete("jaxgen train -")
    )


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, and a `jaxgen` to find on the path."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in needs:
        command = [sys.executable, "-m", "jaxgen", "completion", shell]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (folder / shell).write_text(text)
    (folder / "bin").mkdir()
    program = folder / "bin" / "jaxgen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m jaxgen "$@"\n')
    program.chmod(0o755)
    return folder


def ask(scripts, shell: str, program: str, cwd) -> list[str]:
    path = os.pathsep.join([str(scripts / "bin"), os.environ["PATH"]])
    options = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[shell]
    command = [shell, *options, program.replace("SCRIPT", str(scripts / shell))]
    environment = {**os.environ, "PATH": path}
    found = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert not found.stderr, found.stderr
    return found.stdout.split()


@pytest.mark.skipif(not needs["bash"], reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jaxgen conf", ["config"]),
        ("jaxgen train --gin.warmup_cosine.p", ["--gin.warmup_cosine.peak="]),
        ("jaxgen train --run_dir=runs/o", ["runs/one"]),  # after the "=", where bash splits
        ("jaxgen train --run_dir runs/o", ["runs/one"]),
    ],
)
def test_bash(scripts, folder, line, expected):
    program = (
        "source SCRIPT; [[ $(complete -p jaxgen) == 'complete -F _jaxgen jaxgen' ]] || exit 1; "
        f"COMP_LINE='{line}' COMP_POINT={len(line)}; _jaxgen; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    assert ask(scripts, "bash", program, folder) == expected


@pytest.mark.skipif(not needs["zsh"], reason="zsh is not installed")
def test_zsh(scripts, folder):
    # Outside a line editor, `compadd` is replaced to print what it is given.
    program = (
        "compdef() { [[ $1 == _jaxgen && $2 == jaxgen ]] }; "
        "compadd() { shift $argv[(i)--]; print -l -- $argv }; source SCRIPT; "
        "words=(jaxgen train --run_dir=runs/o) CURRENT=3 PREFIX=--run_dir=runs/o; _jaxgen; "
        "words=(jaxgen train --gin.train.ste) PREFIX=--gin.train.ste; _jaxgen"
    )
    assert ask(scripts, "zsh", program, folder) == ["--run_dir=runs/one", "--gin.train.steps="]


@pytest.mark.skipif(not needs["fish"], reason="fish is not installed")
def test_fish(scripts, folder):
    program = (
        "source SCRIPT; complete -C 'jaxgen train --run_dir=runs/o'; "
        "complete -C 'jaxgen train --gin.train.ste'"
    )
    assert ask(scripts, "fish", program, folder) == ["--run_dir=runs/one", "--gin.train.steps="]


def test_the_script_has_every_binding():
    assert {"train.steps", "model.embed_dim", "adamw.beta1"} <= set(completion.binding_names())
