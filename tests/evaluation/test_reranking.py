"""Reranking: the candidates nearest to their prompt, by vectors that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import one_device_mesh
from support.pairs import Angles

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import Text
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError
from jaxgen.evaluation.reranking import best_of, similarities

PAIRS = ImageTextPairs(Task("t", StandardLibraryProse(), Text(), ByteCodec()), image_size=4)


def test_the_best_are_those_whose_pictures_are_nearest_to_their_own_prompt():
    greys, texts = [97, 99, 120, 98, 122, 100], ["a", "a", "a", "b", "b", "b"]
    pictures = [np.full((8, 8, 3), grey, np.uint8) for grey in greys]
    with jax.set_mesh(one_device_mesh()):
        found = similarities(Angles(jnp.float32(0.01)), PAIRS, 8, pictures, texts)
    angles = 0.01 * (np.array(greys) - [97, 97, 97, 98, 98, 98])
    np.testing.assert_allclose(found, np.cos(angles), atol=1e-5)
    assert best_of(found, 2, 1).tolist() == [0, 3]
    assert best_of(found, 2, 2).tolist() == [0, 1, 3, 5]


def test_a_run_of_other_data_is_refused():
    with pytest.raises(ConfigError, match=r"runs/contrastive\.gin"):
        similarities(None, Task, 8, [], [])


def test_a_run_of_another_model_is_refused():
    """Such as one of diffusion, whose data are pairs too."""
    with pytest.raises(ConfigError, match=r"runs/contrastive\.gin\), not of object"):
        similarities(object(), PAIRS, 8, [], [])
