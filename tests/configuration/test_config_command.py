"""`jaxgen config show|diff|check` on files and run directories."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

import jaxgen.configuration
from jaxgen.commands import config as command
from jaxgen.configuration import load_run, load_text
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Run:
    steps: int
    width: int = 1


@dataclasses.dataclass(frozen=True)
class Execution:
    fsdp: int = 1


TABLE = {"run": Run, "execution": Execution}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxgen.configuration, "registered", lambda: TABLE)
    (tmp_path / "a.gin").write_text("run.steps = 3\n")
    (tmp_path / "template.gin").write_text("run.steps = %STEPS\nSTEPS = %gin.REQUIRED\n")
    (tmp_path / "bad.gin").write_text("run.stesp = 3\nrun.width = 'x'\n")
    (tmp_path / "runs/one").mkdir(parents=True)
    (tmp_path / "runs/one/config.gin").write_text("run.steps = 4\nrun.width = 1\n")
    return tmp_path


def arguments(**values):
    return argparse.Namespace(**{"bindings": [], "gin_files": [], "path": None, **values})


def test_show_prints_what_builds_the_same(folder, capsys):
    assert command.show(arguments(gin_files=["a.gin"], bindings=["run.width=5"])) == 0
    printed = capsys.readouterr().out
    assert load_text(printed, table=TABLE) == Run(3, 5)
    (folder / "printed.gin").write_text(printed)
    assert load_run(["printed.gin"]) == (Run(3, 5), Execution())
    assert command.show(arguments(path="runs/one")) == 0
    assert capsys.readouterr().out == "run.steps = 4\nrun.width = 1\n"


def test_diff_of_a_file_and_a_run(folder, capsys):
    assert command.diff(arguments(first="a.gin", second="runs/one")) == 1
    assert capsys.readouterr().out == "steps: 3 -> 4\n"
    assert command.diff(arguments(first="a.gin", second="runs/one", bindings=["run.steps=5"])) == 0
    assert capsys.readouterr().out == ""
    (folder / "b.gin").write_text("run.steps = 3\nexecution.fsdp = 4\n")
    assert command.diff(arguments(first="a.gin", second="b.gin")) == 1
    assert capsys.readouterr().out == "execution.fsdp: 1 -> 4\n"
    with pytest.raises(ConfigError, match="there is no file"):
        command.diff(arguments(first="a.gin", second="c.gin"))


def test_check_goes_on_after_a_failure(folder, capsys):
    assert command.check(arguments(files=["a.gin", "template.gin"])) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok      a.gin",
        "ok      template.gin (requires STEPS)",
    ]
    assert command.check(arguments(files=["bad.gin", "a.gin"])) == 1
    printed = capsys.readouterr()
    assert printed.out == "ok      a.gin\n"
    assert printed.err == (
        "failed  bad.gin: bad.gin:1: `run` has no parameter `stesp`; did you mean `steps`?\n"
    )
