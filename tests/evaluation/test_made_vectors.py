"""The evaluator of priors: vectors that are known, of captions that come several times."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.pairs import LETTERS

from jaxgen.evaluation import made_vectors
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.made_vectors import MadeVectors
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine

OBJECTIVE = DiffusionLoss(Corruption(Cosine(), "x"))
CONTEXT = EvaluationContext(LETTERS, OBJECTIVE, 0, 16, 8)
TRUE = np.repeat(np.eye(10, dtype=np.float32), 2, axis=0)
"""A direction a letter, and each letter is there twice."""


def rows_of(monkeypatch, made):
    monkeypatch.setattr(made_vectors, "make_arrays", lambda *_: made[:, None, None])
    monkeypatch.setattr(made_vectors, "in_batches", lambda *_: TRUE[:, None, None])
    model = SimpleNamespace(latents=SimpleNamespace())
    return MadeVectors(num_examples=20)(model, CONTEXT)


def test_a_vector_is_found_among_the_pictures_of_other_captions(monkeypatch):
    rows = rows_of(monkeypatch, 3 * TRUE)
    assert [row["found"] for row in rows] == [1] * 20
    assert rows[0]["chance"] == 0.1
    assert [row["cosine"] for row in rows] == pytest.approx([1.0] * 20)


def test_that_of_another_caption_is_not(monkeypatch):
    made = TRUE.copy()
    made[0] = TRUE[0] + TRUE[2]
    made[1] = 0.9 * TRUE[2] + TRUE[1]
    rows = rows_of(monkeypatch, made)
    assert [row["found"] for row in rows] == [0] + [1] * 19, "as near to another is not found"
    assert rows[0]["cosine"] == pytest.approx(0.5**0.5)
