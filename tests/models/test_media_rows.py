"""Rows with pictures: places turn and are added as defined, counted, and the same on every mesh."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import MESHES, build, one_device_mesh, random_batch, tiny_dense
from support.media import CODEC, FIRST

from jaxgen.codecs.media import locate
from jaxgen.errors import ConfigError
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.positions import Rope
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch

CONFIG = tiny_dense(
    vocab_size=-(-CODEC.vocab_size // 64) * 64,
    head_dim=8,
    layers=(LayerConfig(rope=Rope(sections=(1, 1, 1, 1))),),
    place_embeddings=(2, 4, 6),
)
OBJECTIVE = NextToken(modality_weights={"image": 7.0, "text": 1.0})


def batch_with_pictures():
    batch = random_batch(vocab_size=64, length=32)
    tokens = np.array(batch.tokens)
    tokens[:, 2:8] = FIRST + tokens[:, 2:8] % 4
    tokens[:, 20:25] = FIRST + 4 + tokens[:, 20:25] % 2
    found = [locate(row, CODEC.media_ranges) for row in tokens]
    modalities, places = (np.stack(column) for column in zip(*found, strict=True))
    return dataclasses.replace(
        batch,
        tokens=tokens,
        modalities=modalities,
        places=places % 2,
        modality_names=("text", "image", "audio"),
    )


def loss_and_gradients(mesh):
    batch = batch_with_pictures()
    with jax.set_mesh(mesh):
        model = build(CONFIG)
        placed = put_batch(batch, mesh, model.layout.rules)

        @jax.jit
        def run(model, batch):
            def mean(model):
                loss = OBJECTIVE(model, batch)
                return loss.total / loss.weight, loss.metrics

            (value, metrics), gradients = jax.value_and_grad(mean, has_aux=True)(model)
            return value, metrics, gradients

        value, metrics, gradients = run(model, placed)
        return jax.device_get((value, metrics, dict(_arrays(gradients))))


def _arrays(gradients):
    return [(name, np.asarray(p[...])) for name, p in named_parameters(gradients)]


@pytest.fixture(scope="module")
def alone():
    return loss_and_gradients(one_device_mesh())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "sequence", "stage"])
def test_losses_and_gradients_are_the_same_on_a_mesh(name, alone):
    value, metrics, gradients = loss_and_gradients(make_mesh(MESHES[name]))
    np.testing.assert_allclose(value, alone[0], rtol=2e-6)
    for key, one in alone[1].items():
        np.testing.assert_allclose(metrics[key].total, one.total, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(metrics[key].weight, one.weight, rtol=1e-6)
    for key, gradient in alone[2].items():
        scale = np.abs(gradient).max()
        assert scale > 0, f"{key} has no gradient"
        np.testing.assert_allclose(gradients[key] / scale, gradient / scale, atol=2e-5)


def test_every_figure_by_modality_is_a_sum_over_its_own_tokens(alone):
    batch, metrics = batch_with_pictures(), alone[1]
    share = metrics["modality_share"]
    assert share.labels[:3] == ("first/text", "first/image", "first/audio")
    counts = dict(zip(share.labels, share.total, strict=True))
    is_token = batch.segment_ids > 0
    for label, count in counts.items():
        task, modality = label.split("/")
        of_task = batch.task_ids == batch.task_names.index(task)
        of_modality = batch.modalities == batch.modality_names.index(modality)
        assert count == (is_token & of_task & of_modality).sum()
    assert sum(counts.values()) == share.weight == is_token.sum()
    loss = metrics["modality_loss"]
    np.testing.assert_allclose(loss.total.sum(), metrics["loss"].total.sum(), rtol=1e-5)
    np.testing.assert_allclose(loss.weight.sum(), batch.loss_weights.sum())


def test_weights_by_modality_weigh_the_token_to_predict(alone):
    batch = batch_with_pictures()
    weights = np.array(batch.loss_weights)
    weights[:, 1:7] *= 7
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        model = build(CONFIG)
        weighted = dataclasses.replace(batch, loss_weights=weights)
        placed = put_batch(weighted, mesh, model.layout.rules)
        plain = jax.jit(NextToken())(model, placed, None)
    np.testing.assert_allclose(plain.total / plain.weight, alone[0], rtol=2e-6)


def test_a_modality_that_the_data_lack_is_refused():
    objective = NextToken(modality_weights={"video": 2.0})
    with pytest.raises(ConfigError, match=r"\['video'\].*'text', 'image', 'audio'"):
        jax.eval_shape(objective, build(CONFIG), batch_with_pictures(), None)


def test_tables_of_places_are_counted():
    count = CONFIG.count()
    plain = dataclasses.replace(CONFIG, place_embeddings=(0, 0, 0)).count()
    real = sum(p.size for _, p in named_parameters(abstract_model(CONFIG)))
    assert count.total == real == plain.total + 12 * CONFIG.embed_dim


def test_a_row_of_text_does_not_feel_that_there_could_be_pictures():
    batch = random_batch(vocab_size=64)
    model, run = build(CONFIG), jax.jit(lambda model, batch: model(batch).hidden)
    places = np.zeros((*batch.shape, 3), np.int32)
    marked = dataclasses.replace(batch, modalities=np.zeros_like(batch.tokens), places=places)
    np.testing.assert_array_equal(run(model, batch), run(model, marked))


def test_a_place_moves_a_picture_and_no_earlier_token():
    batch = batch_with_pictures()
    moved = np.array(batch.places)
    moved[:, 4] = (1, 3, 5)
    model, run = build(CONFIG), jax.jit(lambda model, batch: model(batch).hidden)
    first = np.asarray(run(model, batch))
    second = np.asarray(run(model, dataclasses.replace(batch, places=moved)))
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert (first[:, 4] != second[:, 4]).any()


def test_targets_in_their_own_places_are_of_what_lies_there():
    batch = batch_with_pictures()
    is_code = batch.modalities > 0
    weights = np.where(is_code, batch.loss_weights, 0)
    batch = dataclasses.replace(batch, targets=batch.tokens, loss_weights=weights)
    objective = NextToken(modality_weights={"image": 2.0, "audio": 2.0}, in_place=True)
    loss = jax.jit(lambda model, batch: objective(model, batch))(build(CONFIG), batch)
    assert loss.weight == 2 * weights.sum()
    of_text = [label.endswith("text") for label in loss.metrics["modality_loss"].labels]
    np.testing.assert_array_equal(np.asarray(loss.metrics["modality_loss"].weight)[of_text], 0)
