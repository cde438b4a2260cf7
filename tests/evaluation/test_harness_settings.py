"""What tasks of the LM Evaluation Harness ask for is done, or refused by name."""

import dataclasses
from types import SimpleNamespace

import pytest

from jaxgen.errors import DataError
from jaxgen.evaluation.harness_settings import check_tasks, read_settings


@dataclasses.dataclass
class Config:
    """Has the fields of the harness's configuration of a task that are read."""

    output_type: str = "generate_until"
    generation_kwargs: object = None


def task(settings=None, **others):
    return SimpleNamespace(config=Config(generation_kwargs=settings), **others)


@pytest.mark.parametrize(
    ("settings", "temperature", "max_tokens"),
    [
        ({}, 0, None),
        ({"temperature": 0.7}, 0.7, None),
        ({"temperature": 0.7, "do_sample": False, "max_tokens": 5}, 0, 5),
        ({"do_sample": True, "max_new_tokens": 3, "top_k": 0}, 1, 3),
        ({"temperature": 0.0, "until": "x", "num_beams": 1}, 0, None),
    ],
)
def test_settings_mean_what_they_mean_to_the_harness(settings, temperature, max_tokens):
    read = read_settings("t", settings)
    assert (read.policy.temperature, read.max_tokens) == (temperature, max_tokens)
    assert read.policy.top_k is None
    with pytest.raises(DataError, match="generation_kwargs"):
        read_settings("t", settings | {"max_gen_toks": -1})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_beams": 4, "use_cache": True}, "num_beams=4"),
        ({"until": 3}, "until=3"),
        ({"until": ["a", None, 5]}, "until="),
        ({"do_sample": True, "top_p": 1.5}, "top_p=1.5"),
        ({"max_gen_toks": "many"}, "max_gen_toks"),
        ([1, 2], r"\[1, 2\]"),
    ],
)
def test_settings_that_are_not_understood_are_named_with_their_task(settings, named):
    tasks = {"a group": {"mine": task({}), "theirs": task(settings)}}
    with pytest.raises(DataError, match=rf"the task theirs .*{named}"):
        check_tasks(tasks)


@pytest.mark.parametrize(
    ("asks", "named"),
    [
        (task(UNSAFE_CODE=True), r"executes code .*unsafe_code"),
        (task(MULTIMODAL=True), r"shows the model pictures or sounds \(doc_to_image"),
    ],
)
def test_tasks_that_execute_answers_or_show_pictures_are_refused(asks, named):
    with pytest.raises(DataError, match=f"the task theirs {named}"):
        check_tasks({"mine": task(UNSAFE_CODE=False, MULTIMODAL=False), "theirs": asks})
