"""Instruction templates: every one fits its task and asks for the right answer."""

import json
import re

import pytest

from jaxgen.commands.tasks import load_task, task_named
from jaxgen.configuration import load, to_gin
from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, PairOrder
from jaxgen.data.instructions import (
    Instructions,
    read_instructions,
    tasks_of_families,
)
from jaxgen.data.protocols import Epoch
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError

TASKS = [name for tasks in read_instructions().values() for name in tasks]
GIN = ["runs/quickstart.gin", "mixtures/instructions.gin", "suites/zero_shot.gin"]


def asked(name, source=None, count=60, epoch=None, **options):
    """Records of a task that comes with jaxgen, as instructions."""
    task = Task(
        name,
        source or load_task(name).source,
        PromptAnswer(),
        preprocessors=(Instructions(name, **options),),
    )
    records = task.records_by_index("train").__getitems__(range(count))
    return list(task.processed(records, epoch))


@pytest.mark.parametrize("name", TASKS)
def test_every_template_fits_its_task(name):
    of_task = next(tasks[name] for tasks in read_instructions().values() if name in tasks)
    lists = of_task["templates"]
    count = max(map(len, lists.values())) if isinstance(lists, dict) else len(lists)
    assert count >= 4
    for record in asked(name):
        assert (
            record["prompt"].endswith("\n")
            and record["answer"].strip() == record["answer"].rstrip()
        )
        assert not re.search(r"\{\w+\}", record["prompt"].replace("{}", "")) or name == "dyck"
        assert "turns" not in record
    # Many draws reach every template.
    prompts = {re.sub(r"[\d\W]+", "", r["prompt"])[:12] for r in asked(name, count=200)}
    assert len(prompts) > 1


def test_sums_in_words_are_right():
    seen = set()
    for record in asked("addition", Addition(3), 300):
        numbers = [int(n) for n in re.findall(r"\d+", record["prompt"])]
        is_reversed = "to get" in record["prompt"]
        expected = numbers[1] - numbers[0] if is_reversed else sum(numbers)
        assert int(record["answer"]) == expected and not re.match(r"0\d", record["answer"])
        seen.add(re.sub(r"\d+", "#", record["prompt"]))
    assert len(seen) == 7


def test_comparisons_ask_for_what_their_relation_is():
    for record in asked("pair_order", PairOrder(digits=2), 300):
        words = re.findall(r"\w+", record["prompt"])
        two = (record["first"], record["second"])
        assert set(two) <= set(words)
        key = int if two[0].isdigit() else str
        is_most = bool({"larger", "greater", "last", "later"} & set(words))
        assert record["answer"] == (max if is_most else min)(two, key=key)


def test_templates_are_drawn_anew_in_each_epoch_and_stay_in_evaluations():
    first, again, second = (
        [r["prompt"] for r in asked("addition", epoch=Epoch(0, "addition", number))]
        for number in (0, 0, 1)
    )
    assert first == again and first != second
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 30
    assert asked("addition") == asked("addition")


def test_as_a_conversation():
    (record,) = asked("addition", Addition(2), 1, form="chat")
    user, assistant = record["messages"]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    parts = Chat().parts(record)
    assert [p.text for p in parts if p.is_answer] == [assistant["content"], "<|end_of_turn|>"]


def test_the_file_is_data_that_anybody_may_write(tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"colours": {"sky": {
        "read": {"text": "the (?P<what>\\w+) is (?P<colour>\\w+)"},
        "rewrite": {"loud": ["what", "(.+)", "\\1!"]},
        "templates": [["Which colour has the {loud}?", "{colour}"]]}}}))  # fmt: skip
    source = InMemory(({"text": "the sky is blue"}, {"text": "the sea is green"}), 0.5)
    step = Instructions("sky", file=str(file))
    task = Task("sky", source, PromptAnswer(), preprocessors=(step,))
    records = task.processed(source.records)
    assert {(r["prompt"], r["answer"]) for r in records} == {
        ("Which colour has the sky!?\n", "blue"), ("Which colour has the sea!?\n", "green")
    }  # fmt: skip
    assert step.family == "colours"
    before = step.content_digest()
    file.write_text(file.read_text().replace("Which colour", "What colour"))
    assert step.content_digest() != before
    with pytest.raises(DataError, match=r"instructions of sky: .* does not match 'no'"):
        list(task.processed([{"text": "no"}]))


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ({"f": {"t": {"templates": [["only a prompt"]]}}}, r"template of t is \[prompt, answer\]"),
        ({"f": {"t": {"templates": {"x": [["a", "b"]]}}}}, "or with 'by' a list for each value"),
        ({"f": {"t": {"read": {"a": "("}, "templates": [["a", "b"]]}}}, r"has the pattern '\('"),
        ({"f": {"t": {}}}, "templates is missing"),
        ({"f": {"t": {"templates": [["a", "b"]]}}, "g": {"t": {"templates": [["a", "b"]]}}},
         r"task\(s\) \['t'\] in several families"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, families, message):
    (tmp_path / "own.json").write_text(json.dumps(families))
    with pytest.raises(ConfigError, match=message):
        Instructions("t", file=str(tmp_path / "own.json"))


def test_a_task_without_templates_is_refused():
    with pytest.raises(ConfigError, match="'sparse_parity' has no templates"):
        Instructions("sparse_parity")
    with pytest.raises(ConfigError, match="is not there"):
        Instructions("addition", file="nowhere.json")


def test_whole_families_are_held_out_and_measured(tmp_path):
    config = load(GIN, ["HELD_OUT=('lists', 'code')"])
    trained = set(config.mixture.task_names)
    scored = {one.task.name for one in config.evaluation.suite}
    assert scored == {
        "instructions/list_functions", "instructions/list_programs", "instructions/list_induction",
        "instructions/code_infilling", "instructions/list_program_code",
    }  # fmt: skip
    assert not trained & scored and trained | scored == {f"instructions/{n}" for n in TASKS}
    (tmp_path / "config.gin").write_text(to_gin(config))
    assert load([str(tmp_path / "config.gin")]) == config


def test_families_that_are_not_there_are_refused():
    task = Task("a", Addition(), PromptAnswer(), preprocessors=(Instructions("addition"),))
    with pytest.raises(ConfigError, match=r"no task belongs to \['music'\]"):
        tasks_of_families((task,), ("music",), inside=False)
    with pytest.raises(ConfigError, match="leaves no task to train on"):
        tasks_of_families((task,), ("arithmetic",), inside=False)
    with pytest.raises(ConfigError, match="name one at least"):
        tasks_of_families((task,), ())
    assert tasks_of_families((task,), (), inside=False) == (task,)


def test_tasks_of_the_mixture_are_found_by_name():
    task = task_named("instructions/pair_order", ["mixtures/instructions.gin"], ["HELD_OUT=()"])
    assert task.preprocessors == (Instructions("pair_order"),)
