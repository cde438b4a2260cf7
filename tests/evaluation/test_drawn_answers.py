"""Answers that a model draws by flow, of which tokens say only that a picture begins."""

import dataclasses
from typing import Any

import pytest

from jaxgen.configuration import load
from jaxgen.data.packing import RowShape
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.config import EvaluationTask
from jaxgen.evaluation.evaluate import scored_tasks


def test_they_have_no_exact_match():
    """Two tokens, the begin of a picture and the end, were right in .93 of cases after 4 steps."""
    config: Any = load(["runs/transfusion.gin"], [])
    scored = scored_tasks(config.mixture, config.evaluation)
    assert [one.task.name for one in scored] == ["sprites_described"]


def test_a_suite_of_them_is_refused_before_training():
    config: Any = load(["runs/transfusion.gin"], [])
    drawn = next(task for task in config.mixture.tasks if task.name == "sprites_drawn")
    task = dataclasses.replace(drawn, name="asked")
    settings = dataclasses.replace(config.evaluation, suite=(EvaluationTask(task),))
    asked = scored_tasks(config.mixture, settings)[-1].task
    examples = asked.encode(asked.instances(2, 0))
    with pytest.raises(DataError, match=r"draws the answers of asked by flow.*@drawn_pictures"):
        Answers().check(asked, examples, RowShape(128))
