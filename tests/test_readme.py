"""The commands of the README, taken from it: they parse, load, and, with small lengths, run."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support.shipped import TELEPHONE

from jaxgen.cli import CONFIGURED, _parser, main
from jaxgen.codecs.palette import made_for, train_palette
from jaxgen.configuration import load_run, parse_flags

README = Path(__file__).parents[1] / "README.md"
SHORT = [
    "--gin.train.steps=4", "--gin.train.batch_size=8", "--gin.evaluation.num_batches=1",
    "--gin.evaluation.num_examples=8", "--gin.evaluation.batch_size=8",
]  # fmt: skip
LONG = ("--go", "harness", "import ", "sweep", "extend")
"""Words of commands that take long, or need a network, another package or another run."""


def commands(path=README):
    """The `jaxgen` commands of indented lines, without variables, comments and redirections."""
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    lines = re.findall(r"^ {4}(?:[A-Z_]+=\S+ )*(jaxgen .*)$", text, re.MULTILINE)
    return [re.split(r"\s+(?:#|>|\|)", line)[0] for line in lines]


def words_of(command):
    return shlex.split(command)[1:]


def test_they_are_many_and_name_every_command():
    parser = _parser()
    shown = {words_of(command)[0] for command in commands()}
    every = {name for action in parser._actions for name in action.choices or ()}
    assert len(commands()) > 30
    elsewhere = {"diagnose", "plan", "revise", "feedback", "reference", "rollouts"}
    assert every - shown <= elsewhere, "guides of their own in docs/ have those"


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_it_parses_and_its_configuration_loads(command, tmp_path, monkeypatch):
    flags = parse_flags(words_of(command))
    parsed = _parser().parse_args(flags.rest)
    monkeypatch.chdir(tmp_path)
    colours = np.eye(3, dtype=np.float32)  # What another command makes.
    train_palette(colours, 3, "sprites.safetensors", made_for("image", (1, 1, 1)))
    frames = np.eye(3, TELEPHONE.bands, dtype=np.float32)
    train_palette(frames, 3, "tones.safetensors", made_for("audio", mel=TELEPHONE))
    Path("sprites_fsq.safetensors").touch()
    if parsed.function[1] == "train" and flags.gin_files:
        needs_tokenizer = any("tokenizer.json" in binding for binding in flags.bindings)
        bindings = flags.bindings if not needs_tokenizer else flags.bindings[:1]
        run, _ = load_run(flags.gin_files, bindings)
        assert run.train.total_steps(run.model.count().active) > 0


@pytest.mark.parametrize("guide", sorted(README.parent.glob("docs/*.md")), ids=lambda p: p.stem)
def test_those_of_a_guide_parse(guide):
    for command in commands(guide):
        if "..." not in command:
            flags = parse_flags(words_of(command))
            parsed = _parser().parse_args(flags.rest)
            is_bare = not flags.gin_files and not flags.bindings
            assert is_bare or parsed.function[0] in CONFIGURED, command


@pytest.mark.slow
def test_they_run_in_order_with_small_lengths(tmp_path, monkeypatch, capsys):
    """As a new user gives them, in an empty folder with some text."""
    monkeypatch.chdir(tmp_path)
    for folder in ("my/folder", "my/folder/poems", "my/tasks"):
        os.makedirs(folder)
        for index in range(12):
            words = " ".join(f"line {index} of number {n} in {folder};" for n in range(150))
            Path(folder, f"{index}.txt").write_text(f"Once upon a time, {words}")
    for command in commands():
        words = words_of(command)
        if any(word in command for word in LONG):
            continue
        if words[0] in ("train", "launch"):
            words += SHORT
            if "profile_steps" in command:
                words.append("--gin.execution.profile_steps=(2, 3)")
            if "poems" in command:
                words.append("--gin.train.length=64")
            if "sums_rewarded" in command:
                words.append("--gin.warmup_cosine.warmup=1")
        elif words[0] == "generate" and "--output" not in command:
            words.append("--max_tokens=4")
        elif words[0] == "laws":
            continue  # It needs a table of runs.
        elif words[0] == "tokenizer":
            words = [w.replace("=2048", "=400") for w in words]
        elif words[0] == "evaluate" and "suites" in command:
            words += ["--num_examples=4"]
        elif words[0] == "data":
            words += ["--steps=10"]
        elif words[0] in ("report", "backtest"):
            continue  # Of the sweep that is left out.
        code = main(words)
        printed = capsys.readouterr()
        expected = (0, 1) if words[:2] == ["config", "diff"] else (0,)
        assert code in expected, f"{command}\n{printed.err}"
    assert json.loads(Path("runs/mine/run.json").read_text())["finished"]
