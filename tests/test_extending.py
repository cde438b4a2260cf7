"""docs/extending.md is run as it is written: its files, then its commands, made small."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from support.tiers import slow_but

from jaxgen.cli import main
from jaxgen.runs.run_directory import read_metrics

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {
    text.split("\n", 1)[0].removeprefix("# "): text
    for kind, text in BLOCKS
    if kind in ("python", "gin")
}
COMMANDS = [
    shlex.split(line)
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.replace("\\\n", "").splitlines()
]
RUNS: dict[str, list[list[str]]] = {}
for command in COMMANDS:
    (run,) = re.findall(r"[ =]runs/(\w+)(?= |$)", " ".join(command))
    RUNS.setdefault(run, []).append(command)
SMALL = [
    "--gin.train.steps=3", "--gin.train.batch_size=8", "--gin.train.length=48",
    "--gin.execution.log_every=1", "--gin.evaluation.num_batches=1",
    "--gin.evaluation.num_examples=8", "--gin.evaluation.batch_size=8",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the page's files, in which its commands are given."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        yield folder
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def give(command: list[str]) -> int:
    assert command[0] == "jaxgen"
    return main(command[1:] + (SMALL if command[1] == "train" else []))


def test_parts_are_short_and_name_no_more_than_they_need():
    assert len(COMMANDS) == 7
    for name, text in FILES.items():
        assert len(text.splitlines()) < 30, name


@pytest.mark.parametrize("run", slow_but(["factors"], RUNS))
def test_commands_of_the_page(folder, run, capsys):
    for command in RUNS[run]:
        assert give(command) == 0, capsys.readouterr().err
        if command[1] != "train":
            continue
        directory = folder / command[command.index(next(w for w in command if "run_dir" in w))][10:]
        assert len(read_metrics(directory / "metrics.jsonl")) == 3
        modules = json.loads((directory / "run.json").read_text())["imports"]
        flags = {f"--import={Path(module['file']).name}" for module in modules}
        assert flags == {word for word in command if word.startswith("--import")}
        lines = "".join(f"import {module['module']}\n" for module in modules)
        assert (directory / "config.gin").read_text().startswith(lines)


@pytest.mark.slow
def test_the_flag_is_asked_for_again_and_a_changed_file_is_told(folder, capsys):
    (train,) = [command for command in COMMANDS if "--run_dir=runs/sign" in command]
    train = [*train, "--gin.execution.checkpoint_every=1"]
    train = [word.replace("runs/sign", "runs/again") for word in train]
    assert give(train) == 0
    record = folder / "runs/again/run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    capsys.readouterr()
    sys.modules.pop("my_optimizer")
    without = [word for word in train if not word.startswith("--import")]
    assert give(without) == 1
    assert f"--import={folder / 'my_optimizer.py'}" in capsys.readouterr().err
    for command in (["evaluate"], ["generate", "--prompt=x"]):
        assert give(["jaxgen", *command, "--run_dir=runs/again"]) == 1
        assert f"--import={folder / 'my_optimizer.py'}" in capsys.readouterr().err
    assert "my_optimizer" not in sys.modules
    with open(folder / "my_optimizer.py", "a") as file:
        file.write("# a line more\n")
    assert give(train) == 0
    message = capsys.readouterr().err
    assert message.startswith("note: ") and "my_optimizer.py has changed" in message
    assert give(train) == 0
