"""Building a tree from gin text, and the error that each everyday mistake gives."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any, Literal

import pytest

from jaxgen.configuration import check_files, load, load_text
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class AdamW:
    decay: float = 0.1
    beta: float = 0.9


@dataclasses.dataclass(frozen=True)
class Adafactor:
    decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class Train:
    steps: int | str
    optimizer: AdamW | Adafactor = AdamW()
    length: int = 8

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"length={self.length} must be positive")


@dataclasses.dataclass(frozen=True)
class Task:
    name: str
    copies: int = 1


@dataclasses.dataclass(frozen=True)
class Mixture:
    tasks: tuple[Task, ...]
    weights: dict[str, float] | None = None

    def __post_init__(self):
        if len({task.name for task in self.tasks}) < len(self.tasks):
            raise DataError("a name occurs twice")


@dataclasses.dataclass(frozen=True)
class Run:
    train: Train
    mixture: Mixture | None = None
    norm: Literal["rms", "layer"] = "rms"
    note: Any = None


def counted(count: int) -> Mixture:
    return Mixture(tuple(Task(str(index)) for index in range(count)))


TABLE = {
    "run": Run,
    "train": Train,
    "adamw": AdamW,
    "adafactor": Adafactor,
    "task": Task,
    "mixture": Mixture,
    "counted": counted,
}
BASE = "run.train = @train()\ntrain.steps = 3\n"


def error_of(text: str, *bindings: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_text(text, bindings, table=TABLE, source="a.gin")
    return str(raised.value)


def test_a_tree_with_scopes_macros_and_containers():
    text = """
    NAME = 'left'
    run.train = @train()
    run.mixture = @mixture()
    train:
        steps = %STEPS
        optimizer = @adafactor()
    mixture.tasks = [@left/task(), @right/task()]
    mixture.weights = {'left': 1, %OTHER: 0.5}
    task.copies = 2
    left/task.name = %NAME
    right/task.name = %OTHER
    right/task.copies = 3
    STEPS = 5
    OTHER = 'right'
    """
    tasks = (Task("left", 2), Task("right", 3))
    expected = Run(Train(5, Adafactor()), Mixture(tasks, {"left": 1.0, "right": 0.5}))
    built = load_text(text, table=TABLE)
    assert built == expected
    assert type(built.mixture.weights["left"]) is float
    assert pickle.loads(pickle.dumps(built)) == expected


def test_built_objects_are_plain_and_gin_keeps_no_state():
    gin = pytest.importorskip("gin")
    before = gin.config_str()
    built = load_text(BASE, table=TABLE)
    assert type(built) is Run and type(built.train) is Train
    assert gin.config_str() == before


def test_a_function_can_build():
    text = BASE + "run.mixture = @counted()\ncounted.count = 2\n"
    assert load_text(text, table=TABLE).mixture == counted(2)
    assert "`counted` needs `count` (int)" in error_of(BASE + "run.mixture = @counted()\n")


def test_bindings_win_and_bare_words_are_strings():
    assert load_text(BASE, ["train.steps=20x"], table=TABLE).train.steps == "20x"
    for value in ("my/folder", "2024-01-01", "#tag", "it's", "a = b", "-x"):
        assert load_text(BASE, [f"run.note={value}"], table=TABLE).note == value
    for value, expected in (("-3", -3), ("1e-3", 0.001), ("'3'", "3"), ("(1, [2])", (1, [2]))):
        assert load_text(BASE, [f"run.note={value}"], table=TABLE).note == expected


def test_a_replaced_choice_takes_its_settings_with_it():
    text = BASE + "WEIGHT = 1\ntrain.optimizer = @adamw()\nadamw.decay = %WEIGHT\n"
    built = load_text(text, ["train.optimizer=@adafactor()"], table=TABLE)
    assert built.train.optimizer == Adafactor()
    # A setting that comes after the replacement never had a use.
    error = error_of(text, "train.optimizer=@adafactor()", "adamw.beta=0.5")
    assert error == ("binding `adamw.beta=0.5`: `adamw.beta` is set, but no `adamw` is built")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "trian.steps = 3",
            "a.gin:3: unknown name `trian` in `trian.steps`; did you mean `train`?",
        ),
        ("train.stesp = 3", "a.gin:3: `train` has no parameter `stesp`; did you mean `steps`?"),
        ("train.copies = 3", "`train` has no parameter `copies`; did you mean `task.copies`?"),
        ("run.note = @tsak()", "a.gin:3: unknown name `tsak` in `@tsak()`; did you mean `task`?"),
        ("run.note = @task", "a.gin:3: `run.note = @task` builds nothing; write @task()"),
        ("adamw.decay = 1.0", "a.gin:3: `adamw.decay` is set, but no `adamw` is built"),
        ("a/train.steps = 4", "`a/train.steps` is set, but `a/train` is built only as `train`"),
        ("STEPS = 3", "a.gin:3: macro `STEPS` is set, but nothing uses %STEPS; did you mean "),
        ("train.steps = None", "a.gin:3: `train.steps` must be int | str, not None"),
        ("train.length = True", "a.gin:3: `train.length` must be int, not True (bool)"),
        ("train.length = 1.5", "a.gin:3: `train.length` must be int, not 1.5 (float)"),
        ("train.optimizer = 'adamw'", "not 'adamw' (str); write @adamw()"),
        ("run.mixture = 'none'", "`run.mixture` must be Mixture | None, not 'none' (str); write N"),
        ("run.norm = 'rsm'", "`run.norm` must be 'rms' or 'layer', not 'rsm' (str); did you mean"),
        ("train.length = %L\nL = 'x'", "a.gin:3 (%L from a.gin:4): `train.length` must be int"),
        ("train.length = %gin.REQUIRED", "a.gin:3: `train.length` is required and not set"),
        ("train.length = %L\nL = %gin.REQUIRED", "a.gin:4: `L` is required and not set"),
        ("LENGHT = 3\nrun.note = %LENGTH", "%LENGTH is used but not set: write `LENGTH = ...`, or"),
        ("LENGHT = 3\nrun.note = %LENGTH", "did you mean `LENGHT`? (LENGHT is set at a.gin:3)"),
        ("run.note = @task()", "a.gin:3: `task` needs `name` (str): write `task.name = ...`, or"),
        ("run.note = @mixture()\nmixture.tasks = @mixture()", "@mixture() is built from itself"),
        ("run.note = %A\nA = (%B,)\nB = %A", "a.gin:5: %A is built from itself"),
        ("train.length = 0", "a.gin:3: train: length=0 must be positive"),
        ("run.note = -%A\nA = 3", "a.gin:3: syntax error: gin cannot negate a macro"),
        ("run.note = ", "a.gin:3: syntax error: Unable to parse value in `run.note =`"),
        ("run.note = (1,", "syntax error"),
        (
            "run.note = word",
            "a.gin:3: syntax error: text needs quotes: 'word' in `run.note = word`",
        ),
        ("run.note = true", "a.gin:3: syntax error: write True in `run.note = true`"),
        ("run.note = 3 + 4", "a.gin:3: syntax error: Expected newline in `run.note = 3 + 4`"),
        ("run.note = {[]: 1}", "a.gin:3: this cannot be: unhashable type: 'list'"),
        ("import os", "a.gin:3: `import os`: gin files are data here"),
        ("include 'nowhere.gin'", "a.gin:3: there is no file `nowhere.gin`"),
    ],
)
def test_each_mistake_has_its_message(line, expected):
    assert expected in error_of(BASE + line + "\n")


def test_a_refusal_without_a_parameter_is_placed_at_the_reference():
    text = BASE + "run.mixture = @mixture()\ntask.name = 'x'\nmixture.tasks = (@task(), @task())\n"
    assert error_of(text) == "a.gin:3: mixture: a name occurs twice"


def test_all_mistakes_are_said_at_once():
    lines = error_of(BASE + "train.length = 'x'\nrun.norm = 3\n", "run.note=%X").splitlines()
    assert len(lines) == 3


def test_a_wider_line_after_a_narrower_one_is_not_silently_lost():
    text = BASE + "train.optimizer = @a/adamw()\na/adamw.decay = 0.5\n"
    assert error_of(text, "adamw.decay=0.7") == (
        "binding `adamw.decay=0.7`: `adamw.decay` is set, but an earlier line of a narrower scope "
        "wins; write `a/adamw.decay`"
    )


def test_an_empty_configuration_says_what_it_needs():
    assert "`run` needs `train` (Train)" in error_of("")
    with pytest.raises(ConfigError, match="no configurable `rnu`; known names: `run`"):
        load_text("", root="rnu", table=TABLE)


@pytest.mark.parametrize("binding", ["train.steps", "train.steps=", "a=3\nb=4", "=3", "a..b=3"])
def test_malformed_bindings(binding):
    assert error_of(BASE, binding).startswith(f"binding `{binding}`")


def test_a_template_checks_but_does_not_build(tmp_path):
    template = tmp_path / "template.gin"
    template.write_text("STEPS = %gin.REQUIRED\nrun.train = @train()\ntrain.steps = %STEPS\n")
    assert check_files([str(template)], table=TABLE) == ("STEPS",)
    assert check_files([str(template)], ["STEPS=3"], table=TABLE) == ()
    with pytest.raises(ConfigError, match="`STEPS` is required and not set"):
        load([str(template)], table=TABLE)
    template.write_text("run.train = @train()\n")
    assert check_files([str(template)], table=TABLE) == ("train.steps",)
    template.write_text("run.train = @train()\ntrain.steps = %STPES\n")
    with pytest.raises(ConfigError, match="%STPES is used but not set"):
        check_files([str(template)], table=TABLE)


def test_a_part_checks_by_itself(tmp_path):
    part = tmp_path / "part.gin"
    part.write_text("DIM = 3\ntrain.length = %LENGTH\ntrain.optimizer = @adamw()\n")
    assert check_files([str(part)], table=TABLE) == ("train.steps", "LENGTH")
    part.write_text("train.length = 'long'\n")
    with pytest.raises(ConfigError, match="must be int"):
        check_files([str(part)], table=TABLE)
    part.write_text("adamw.dekay = 1\n")
    with pytest.raises(ConfigError, match="did you mean `decay`"):
        check_files([str(part)], table=TABLE)
