"""Captions found by a judge whose vectors are known, of pictures that are known."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from support.helpers import one_device_mesh
from support.known_denoisers import told_model
from support.pairs import LETTERS, Angles

from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import CheckpointError, ConfigError, DataError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask
from jaxgen.evaluation.evaluate import scored_tasks
from jaxgen.generation.diffusion.samplers import Ddim
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine
from jaxgen.runs import found_captions
from jaxgen.runs.cascade_pictures import CascadePictures
from jaxgen.runs.found_captions import FoundCaptions

OBJECTIVE = DiffusionLoss(Corruption(Cosine(), "x"))
CONTEXT = EvaluationContext(LETTERS, OBJECTIVE, 0, 16, 8)
FOUND = FoundCaptions("runs/pair", PictureSampling(Ddim(2)), num_captions=10)


def rows_of(monkeypatch, sign, data: ImageTextPairs | None = LETTERS):
    config = SimpleNamespace(mixture=data, train=SimpleNamespace(length=8))
    judge = SimpleNamespace(model=Angles(jnp.float32(0.01)), config=config)
    monkeypatch.setattr(found_captions, "restore", lambda *_: judge)
    monkeypatch.setattr(found_captions, "read_record", lambda path: None)
    FOUND.check(CONTEXT)
    with jax.set_mesh(one_device_mesh()):
        return FOUND(told_model(4, sign), CONTEXT)


def test_true_pictures_lead_to_their_captions(monkeypatch):
    rows = rows_of(monkeypatch, 1.0)
    assert len(rows) == 10, "each caption once"
    assert [row["exact_match"] for row in rows] == [1] * 10
    assert [row["rank_of_true"] for row in rows] == [1] * 10
    assert rows[0]["chance"] == 0.1


def test_their_opposites_lead_to_the_lightest_of_all(monkeypatch):
    rows = rows_of(monkeypatch, -1.0)
    # Of 255 - g, from 149 to 158, the nearest of 97 to 106 is 106, and the farther the smaller.
    assert [row["rank"] for row in rows] == list(range(10, 0, -1))
    assert [row["text_of_true"] for row in rows] == [1] * 10


def test_runs_that_are_not_there_are_told_before_anything_is_trained():
    with pytest.raises(CheckpointError, match="runs/pair is not a run directory"):
        FOUND.check(CONTEXT)
    with pytest.raises(CheckpointError, match="runs/base is not a run directory"):
        CascadePictures(("runs/base",)).check(CONTEXT)


def test_a_suite_of_texts_is_not_of_pairs():
    task = EvaluationTask(Task("addition", Addition(), PromptAnswer()))
    with pytest.raises(ConfigError, match="a model of Letters writes none"):
        scored_tasks(LETTERS, EvaluationConfig(suite=(task,)))


def test_what_cannot_be_judged_is_refused(monkeypatch):
    with pytest.raises(DataError, match=r"10 held-out captions are unlike .*num_captions=11"):
        dataclasses.replace(FOUND, num_captions=11).check(CONTEXT)
    with pytest.raises(ConfigError, match=r"runs/contrastive\.gin"):
        rows_of(monkeypatch, 1.0, data=None)
