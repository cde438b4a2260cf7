"""Retrieval and zero-shot classification by models of which the answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import one_device_mesh
from support.pairs import build_pair, random_pairs, tiny_clip

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.evaluation.pairs import Retrieval, ZeroShot, encode_images, encode_texts
from jaxgen.evaluation.summary import summarise
from jaxgen.objectives.contrastive import Contrastive
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of one grey, which is the number that the caption names."""

    def read(self, split):
        for number, name in enumerate(DIGITS):
            image = np.full((2, 2, 3), number, np.uint8)
            yield {"image": image, "caption": f"a {name}", "digit": name, "key": f"k{number}"}

    def content_digest(self):
        return "digits"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Oracle:
    """Maps images and captions to one-hot vectors, those of some images to another's."""

    places: jax.Array
    layout: Layout = dataclasses.field(default=Layout(), metadata={"static": True})

    def encode_images(self, images):
        is_number = images[:, 0, 0, 0][:, None] == jnp.arange(10)
        return is_number.astype(jnp.float32) @ jax.nn.one_hot(self.places, 10)

    def encode_texts(self, tokens, lengths):
        names = ByteCodec().encode_batch([f"a {name}" for name in DIGITS])
        first = jnp.array([ids[2] * 1000 + ids[3] for ids in names])  # Two letters tell them apart.
        found = tokens[:, 3] * 1000 + tokens[:, 4]
        return (found[:, None] == first).astype(jnp.float32)


def context(data, batch_size=4):
    return EvaluationContext(data, Contrastive(), seed=0, batch_size=batch_size, length=12)


DATA = ImageTextPairs(Task("digits", Digits()), 2)


def test_retrieval_of_a_model_that_takes_two_images_for_others():
    places = jnp.arange(10).at[jnp.array([3, 4])].set(jnp.array([4, 3]))
    with jax.set_mesh(one_device_mesh()):
        rows = Retrieval(10)(Oracle(places), context(DATA))
    assert len(rows) == 10 and all(row["chance"] == 0.1 for row in rows)
    assert sum(row["text_of_image"] for row in rows) == 8
    assert sum(row["image_of_text"] for row in rows) == 8
    # A wrong one: the other's caption is nearer, and all the rest are as far as its own.
    assert sorted(row["text_of_image_rank"] for row in rows) == [1] * 8 + [10] * 2
    summary = summarise(rows, ("text_of_image", "text_of_image_rank"))
    assert summary["text_of_image"] == 0.8 and summary["num_examples"] == 10
    low, high = summary["text_of_image_interval"]
    np.testing.assert_allclose((low, high), (0.490, 0.943), atol=1e-3)  # Wilson's.
    assert summary["chance"] == pytest.approx(0.1)


def test_a_model_to_which_all_is_alike_finds_nothing():
    with jax.set_mesh(one_device_mesh()):
        rows = Retrieval(10)(Oracle(jnp.zeros(10, int)), context(DATA))
    # The caption of the one that all are taken for is found, by its image and by nine others.
    assert sum(row["text_of_image"] for row in rows) == 1
    assert sum(row["image_of_text"] for row in rows) == 0


def test_zero_shot_classification_of_a_model_that_takes_two_for_others():
    places = jnp.arange(10).at[jnp.array([3, 4])].set(jnp.array([4, 3]))
    evaluator = ZeroShot("digit", ("a {}", "a {}!"), num_examples=10)
    with jax.set_mesh(one_device_mesh()):
        rows = evaluator(Oracle(places), context(DATA))
    wrong = {row["instance"]: row["answer"] for row in rows if not row["exact_match"]}
    assert wrong == {"k3": "four", "k4": "three"}
    assert all(row["chance"] == 0.1 for row in rows)
    with jax.set_mesh(one_device_mesh()):
        more = dataclasses.replace(evaluator, classes=(*DIGITS, "twelve"))
        assert {row["chance"] for row in more(Oracle(places), context(DATA))} == {1 / 11}


@pytest.mark.slow
def test_a_trained_model_is_encoded_in_batches_of_any_size_on_a_mesh():
    config = tiny_clip()
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        model, batch = build_pair(config), random_pairs(config, 10)
        images = encode_images(model, batch.images, 4)
        texts = encode_texts(model, batch.tokens, batch.lengths, 8)
    with jax.set_mesh(one_device_mesh()):
        output = jax.jit(lambda model, batch: model(batch))(build_pair(config), batch)
    np.testing.assert_allclose(images, output.images, atol=1e-5)
    np.testing.assert_allclose(texts, output.texts, atol=1e-5)


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (ZeroShot("colour"), "'colour' is no field of a record; it has"),
        (ZeroShot("digit", classes=("one", "two")), "classes has no 'eight'"),
    ],
)
def test_labels_that_are_not_there_are_told(evaluator, message):
    with jax.set_mesh(one_device_mesh()), pytest.raises(DataError, match=message):
        evaluator(Oracle(jnp.arange(10)), context(DATA))


def test_other_data_and_templates_without_a_class_are_refused():
    with pytest.raises(ConfigError, match="needs data of pairs"):
        ZeroShot("digit")(Oracle(jnp.arange(10)), context(DATA.task))
    with pytest.raises(ConfigError, match=r"needs \{\} where the class goes"):
        ZeroShot("digit", ("a photo",))


def test_evaluators_say_before_training_what_would_stop_them():
    data = ImageTextPairs(Task("digits", Digits()), image_size=2)
    Retrieval().check(context(data))
    ZeroShot("digit").check(context(data))
    with pytest.raises(DataError, match="is no field of a record"):
        ZeroShot("colour").check(context(data))
    with pytest.raises(ConfigError, match="needs data of pairs"):
        ZeroShot("digit").check(context(Task("digits", Digits())))


def test_captions_of_another_task_are_asked_for():
    @dataclasses.dataclass(frozen=True)
    class Others(Digits):
        def read(self, split):
            names = [*DIGITS[1:], DIGITS[0]]
            for record, name in zip(super().read(split), names, strict=True):
                yield record | {"caption": f"a {name}"}

    data = ImageTextPairs(Task("digits", Digits()), image_size=2)
    model = Oracle(jnp.arange(10))
    with jax.set_mesh(one_device_mesh()):
        rows = Retrieval(num_pairs=10, task=Task("others", Others()))(model, context(data))  # pyright: ignore
    assert len(rows) == 10 and sum(row["text_of_image"] for row in rows) == 0
