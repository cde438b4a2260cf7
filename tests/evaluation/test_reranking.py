"""Reranking: the candidates nearest to their prompt, by vectors that are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import one_device_mesh

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import Text
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError
from jaxgen.evaluation.reranking import best_of, similarities
from jaxgen.sharding.layout import Layout

PAIRS = ImageTextPairs(Task("t", StandardLibraryProse(), Text(), ByteCodec()), image_size=4)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Angles:
    """Pictures of grey g and texts that begin with byte g have one direction, of the angle g."""

    unit: jax.Array
    layout: Layout = dataclasses.field(default=Layout(), metadata={"static": True})

    def encode_images(self, images):
        return self._vectors(images[:, 0, 0, 0])

    def encode_texts(self, tokens, lengths):
        return self._vectors(tokens[:, 1])

    def _vectors(self, numbers):
        angle = self.unit * numbers.astype(jnp.float32)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


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
