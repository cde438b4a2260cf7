"""Evaluators of diffusion: attributes, diversity and distances of pictures whose maker is known."""

import dataclasses

import jax
import numpy as np
import pytest
from support.known_denoisers import told_model

from jaxgen.data.generated import Sprites
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.distances import DISTANCES
from jaxgen.evaluation.made_picture_sets import MadePictureSets
from jaxgen.evaluation.made_pictures import MadePictures
from jaxgen.evaluation.picture_sets import PixelFeatures
from jaxgen.generation.diffusion.samplers import Ddim
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine
from jaxgen.sharding.mesh import MeshConfig, make_mesh

PAIRS = ImageTextPairs(
    Task("sprites", Sprites(size=12, tags=("colors",), num_examples=2000)),
    image_size=12,
    text="description",
    distinct=False,
)
OBJECTIVE = DiffusionLoss(Corruption(Cosine(), "x"))
CONTEXT = EvaluationContext(PAIRS, OBJECTIVE, 0, 16, 72)


def rows_of(evaluator, sign=1.0):
    with jax.set_mesh(make_mesh(MeshConfig(1), jax.devices()[:1])):
        evaluator.check(CONTEXT)
        return evaluator(told_model(12, sign), CONTEXT)


SAMPLING = PictureSampling(Ddim(2))


def test_true_pictures_are_right_in_all_and_their_opposites_in_nothing():
    rows = rows_of(MadePictures(SAMPLING, num_examples=20, shown=2))
    assert [row["exact_match"] for row in rows] == [1] * 20
    assert ["made" in row for row in rows] == [True] * 2 + [False] * 18
    assert rows[0]["made"] == rows[0]["reference"]
    wrong = rows_of(MadePictures(SAMPLING, num_examples=20), sign=-1.0)
    assert sum(row["exact_match"] for row in wrong) == 0


@dataclasses.dataclass(frozen=True)
class OneText(Sprites):
    """A source of one text, whose verifier is asked with a record and what was made of it."""

    def score_image(self, record, image):
        return {"all": int((image == record["image"]).all())}


def test_a_source_of_one_text_verifies_too():
    pairs = dataclasses.replace(PAIRS, task=Task("one", OneText(size=12, tags=("colors",))))
    context = dataclasses.replace(CONTEXT, data=pairs)
    with jax.set_mesh(make_mesh(MeshConfig(1), jax.devices()[:1])):
        rows = MadePictures(SAMPLING, num_examples=4)(told_model(12), context)
    assert [row["exact_match"] for row in rows] == [1] * 4


def test_equal_pictures_of_a_caption_have_no_diversity():
    rows = rows_of(MadePictures(SAMPLING, num_examples=4, samples=3))
    assert [(row["exact_match"], row["diversity"]) for row in rows] == [(1, 0)] * 4


def test_true_pictures_are_at_the_floor_and_opposites_are_far():
    sets = MadePictureSets(PixelFeatures(2), SAMPLING, subset_size=16, subsets=2)
    rows, far = rows_of(sets), rows_of(sets, sign=-1.0)
    assert len(rows) == 2
    for row, other in zip(rows, far, strict=True):
        for name in DISTANCES:
            np.testing.assert_allclose(row[name], row[f"{name}_floor"], rtol=1e-5, atol=1e-9)
            assert other[name] > 2 * abs(row[name])


def test_it_is_refused_for_objectives_without_noise():
    context = dataclasses.replace(CONTEXT, objective=NextToken())
    with pytest.raises(ConfigError, match="bind @diffusion_loss"):
        MadePictures().check(context)
