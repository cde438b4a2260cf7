"""DALL-E's layers: equal on every mesh and token by token, with places for codes and for text."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, build, one_device_mesh, tiny_dense
from support.media import CODEC, rows_of_pictures

from jaxgen.errors import ConfigError
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import empty_cache
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.grids import GridColumn, GridNeighbourhood, GridRow
from jaxgen.ops.attention.masks import Causal
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch

ROW, COLUMN, SQUARE = (
    LayerConfig((Causal(), mask), rope=None)
    for mask in (GridRow(2, 3), GridColumn(2, 3), GridNeighbourhood(2, 3, kernel=3))
)
CONFIG = tiny_dense(
    num_layers=6,
    vocab_size=-(-CODEC.vocab_size // 64) * 64,
    layers=(ROW, COLUMN),
    last_layers=(SQUARE, SQUARE),
    text_positions=6,
    place_embeddings=(0, 2, 3),
)
OBJECTIVE = NextToken(modality_weights={"image": 7.0, "text": 4.0})


def loss_and_gradients(mesh, layout=Layout()):
    with jax.set_mesh(mesh):
        model = build(CONFIG, layout)
        placed = put_batch(rows_of_pictures(), mesh, model.layout.rules)

        @jax.jit
        def run(model, batch):
            def mean(model):
                loss = OBJECTIVE(model, batch)
                return loss.total / loss.weight

            return jax.value_and_grad(mean)(model)

        value, gradients = jax.device_get(run(model, placed))
    return value, {name: np.asarray(p[...]) for name, p in named_parameters(gradients)}


@pytest.fixture(scope="module")
def alone():
    return loss_and_gradients(one_device_mesh())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attention"), [("mixed", "auto"), ("sequence", "ring"), ("stage", "blockwise")]
)
def test_losses_and_gradients_are_the_same_on_a_mesh(name, attention, alone):
    mesh = make_mesh(MESHES[name])
    value, gradients = loss_and_gradients(mesh, Layout(attention=attention))
    np.testing.assert_allclose(value, alone[0], rtol=2e-6)
    for key, gradient in alone[1].items():
        scale = np.abs(gradient).max()
        assert scale > 0, f"{key} has no gradient"
        np.testing.assert_allclose(gradients[key] / scale, gradient / scale, atol=2e-5)


def test_groups_end_with_the_last_layers_and_are_counted():
    kinds = [(len(group.unit), group.repeats) for group in CONFIG.groups]
    assert kinds == [(2, 2), (1, 2)]
    layers = [ROW, COLUMN, ROW, COLUMN, SQUARE, SQUARE]
    assert [CONFIG.layer_of(number) for number in range(6)] == layers
    assert CONFIG.count().total == number_of_parameters(abstract_model(CONFIG))
    with pytest.raises(ConfigError, match=r"last_layers has 2 layers.*num_layers=1"):
        dataclasses.replace(CONFIG, num_layers=1)


@jax.jit
def hidden(model, batch):
    return model(batch).hidden


def first_segments(count=2):
    batch = rows_of_pictures(count)
    length = int((batch.segment_ids[0] == 1).sum())
    arrays = {
        field.name: np.asarray(value)[:, :length]
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), np.ndarray)
    }
    ones = np.ones_like(arrays["segment_ids"])
    return dataclasses.replace(batch, **arrays | {"segment_ids": ones})


@pytest.mark.slow
def test_a_cache_gives_what_a_full_pass_does():
    batch, model = first_segments(), build(CONFIG)
    length = batch.tokens.shape[1]
    whole, parts = hidden(model, batch), []
    cache = empty_cache(CONFIG, 2, length + 2, model.layout)
    step = jax.jit(lambda model, batch, cache: model(batch, cache))
    for start, stop in [(0, 4), *((at, at + 1) for at in range(4, length))]:
        part = jax.tree.map(lambda x, a=start, b=stop: jnp.asarray(x)[:, a:b], batch)
        output = step(model, part, cache)
        cache = output.cache
        parts.append(output.hidden)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)


def test_a_code_feels_its_column_only_through_layers_that_see_it():
    config = dataclasses.replace(CONFIG, num_layers=1, layers=(COLUMN,), last_layers=())
    batch, model = first_segments(1), build(config)
    first = int(np.flatnonzero(batch.modalities[0] == 1)[0])
    changed = np.array(batch.tokens)
    changed[:, first] = CODEC.text.vocab_size + (changed[:, first] + 1) % 4
    before, after = (hidden(model, dataclasses.replace(batch, tokens=t))[0] for t in (
        batch.tokens, changed
    ))  # fmt: skip
    felt = np.flatnonzero(np.abs(before - after).max(axis=-1) > 0)
    end = first + 6
    assert set(felt) == {first, first + 3, *range(end, batch.tokens.shape[1])}


def test_text_alone_has_positions_up_to_the_table():
    batch, embed = first_segments(1), build(CONFIG).embedding
    assert embed.text_positions is not None
    table = embed.text_positions[...]
    tokens, positions = jnp.asarray(batch.tokens), jnp.asarray(batch.positions)
    media: Any = {"places": batch.places, "modalities": batch.modalities}
    with using(Layout()):
        found = embed(tokens, positions, **media)[0]
        embed.text_positions = None
        plain = embed(tokens, positions, **media)[0]
    is_text = (np.asarray(batch.modalities[0]) == 0) & (np.asarray(batch.positions[0]) < 6)
    expected = np.where(is_text[:, None], table[np.minimum(batch.positions[0], 5)], 0)
    np.testing.assert_allclose(found - plain, expected, atol=1e-6)


def test_a_depth_mistyped_in_the_millions_is_grouped_and_counted_at_once():
    deep = dataclasses.replace(CONFIG, num_layers=10**9 + CONFIG.num_layers % len(CONFIG.layers))
    assert sum(len(group.unit) * group.repeats for group in deep.groups) == deep.num_layers
    few = [(len(group.unit), group.unit) for group in CONFIG.groups]
    assert few == [(len(group.unit), group.unit) for group in deep.groups]
