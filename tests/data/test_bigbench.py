"""BIG-bench's JSON tasks, of both kinds, as its documentation describes them."""

import json

import pytest

from jaxgen.data.bigbench import BigBench
from jaxgen.data.features import PromptAnswer
from jaxgen.data.few_shot import FewShot
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

WRITTEN = {
    "name": "sums", "task_prefix": "Add.", "metrics": ["exact_str_match"],
    "examples": [{"input": f"{i} plus 1", "target": str(i + 1)} for i in range(30)]
    + [{"input": "one plus 1", "target": ["2", "two"]}],
}  # fmt: skip
CHOSEN = {
    "name": "parity", "example_input_prefix": "\nNumber: ", "example_output_prefix": "\nIt is",
    "examples": [
        {"input": "3", "target_scores": {"even": 0, "odd": 1}},
        {"input": "4", "target_scores": {"even": 1, "odd": 0}},
    ],
}  # fmt: skip


def write(folder, name, task):
    (folder / name).mkdir()
    (folder / name / "task.json").write_text(json.dumps(task))
    return BigBench(str(folder / name))


def test_written_answers(tmp_path):
    records = list(write(tmp_path, "sums", WRITTEN).read("heldout"))
    assert len(records) == 31
    assert records[3] == {
        "prompt": "Add.\nQ: 3 plus 1\nA: ", "answer": "4", "targets": ["4"], "key": "sums:3",
    }  # fmt: skip
    assert (records[30]["answer"], records[30]["targets"]) == ("2", ["2", "two"])


def test_choices(tmp_path):
    records = list(write(tmp_path, "parity", CHOSEN).read("heldout"))
    assert records[1]["prompt"] == "\nNumber: 4\n  choice: even\n  choice: odd\nIt is"
    assert (records[1]["choices"], records[1]["label"]) == (["even", "odd"], 0)
    assert [record["answer"] for record in records] == ["odd", "even"]
    silent = write(tmp_path, "silent", CHOSEN | {"append_choices_to_input": False})
    assert "choice" not in next(silent.read("heldout"))["prompt"]


def test_few_shot_prompts_are_drawn_from_examples_that_are_not_held_out(tmp_path):
    write(tmp_path, "sums", WRITTEN)
    source = BigBench(str(tmp_path / "sums"), heldout_fraction=0.5)
    task = Task("sums", source, PromptAnswer(), preprocessors=(FewShot(2),))
    prompt = task.instances(1, 0)[0]["prompt"]
    assert prompt.count("Add.") == 3 and prompt.count("A: ") == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a BIG-bench task"),
        ('{"examples": [{"input": "a"}]}', r"example 0: no input with target"),
        ('{"examples": [{"input": "a", "target_scores": {}}]}', "example 0"),
        ('{"examples": [{"input": "a", "target": []}]}', "example 0"),
    ],
)
def test_files_that_are_not_tasks_are_named(text, words, tmp_path):
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(DataError, match=words):
        list(BigBench(str(tmp_path)).read("heldout"))
