"""Media as vectors: where they stand, what makes them, counted, and the same on every mesh."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import MESHES, build, one_device_mesh, random_batch, tiny_dense
from support.pairs import tiny_clip

from jaxgen.errors import ConfigError, DataError
from jaxgen.models.base import abstract_model
from jaxgen.models.cache import empty_cache
from jaxgen.models.media import media_flops
from jaxgen.models.media_config import MediaInput, PatchesConfig, Projector
from jaxgen.models.parameters import named_parameters
from jaxgen.models.vision import VisionEncoder
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch
from jaxgen.training.state import trained

TOKEN = 60
CLIP = tiny_clip().vision
INPUTS = {
    "clip": MediaInput(encoder=CLIP, token=TOKEN, encoder_layers=-1, projector=Projector(layers=2)),
    "whole": MediaInput(encoder=CLIP, token=TOKEN, class_token=True),
    "pooled": MediaInput(
        encoder=CLIP, token=TOKEN, projector=Projector(pool=2, norm=True, bias=False)
    ),
    "patches": MediaInput(encoder=PatchesConfig(image_size=16, patch_size=4), token=TOKEN),
    "frozen": MediaInput(encoder=CLIP, token=TOKEN, frozen=True),
}


def config(name):
    return tiny_dense(media=(INPUTS[name],))


def batch_with_pictures(name="clip", length=48):
    """Rows with two pictures but for the last, which has one in its second segment."""
    batch = random_batch(vocab_size=50, length=length)
    tokens, count = np.array(batch.tokens), INPUTS[name].num_vectors
    tokens[:-1, 2 : 2 + count] = TOKEN
    tokens[:, 24 : 24 + count] = TOKEN
    random = np.random.default_rng(3)
    pictures = random.integers(0, 256, (len(tokens), 2, 16, 16, 3), np.uint8)
    return dataclasses.replace(batch, tokens=tokens, media={"image": pictures})


def hidden(model, batch):
    return np.asarray(jax.jit(lambda model, batch: model(batch).hidden)(model, batch))


@pytest.mark.parametrize("name", INPUTS)
def test_every_parameter_is_counted(name):
    real = sum(p.size for _, p in named_parameters(abstract_model(config(name))))
    assert config(name).count().total == real


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patches", "pooled"])
def test_a_picture_stands_where_its_token_is(name):
    batch, model = batch_with_pictures(name), build(config(name))
    first, count = hidden(model, batch), INPUTS[name].num_vectors
    pictures = np.array(batch.media["image"])
    pictures[:, 1] = 255 - pictures[:, 1]
    second = hidden(model, dataclasses.replace(batch, media={"image": pictures}))
    differs = (first != second).any(-1)
    assert not differs[:, :24].any()
    assert differs[:-1, 24 : 24 + count].all()
    assert not differs[-1].any(), "the last row has one picture, its first"


@pytest.mark.slow
def test_vectors_are_those_of_the_encoder_alone():
    model, batch = build(config("clip")), batch_with_pictures()
    reader, pictures = model.media[0], jnp.asarray(batch.media["image"])
    one_by_one = pictures.reshape(-1, 16, 16, 3)
    with using(Layout()):
        found = reader.vectors(pictures)
        shallow = dataclasses.replace(CLIP, stack=dataclasses.replace(CLIP.stack, num_layers=1))
        encoder = VisionEncoder(shallow, nnx.Rngs(0))
        deep = dict(named_parameters(reader.encoder))
        for key, parameter in named_parameters(encoder):
            value = deep[key][...]
            parameter[...] = value[:1] if ".groups." in key else value
        states = reader.encoder.features(one_by_one, None, 1)[:, 1:]
        assert encoder.stack.final_norm is not None, "one block by itself has a norm after it"
        np.testing.assert_allclose(
            encoder.stack.final_norm(states), encoder(one_by_one).hidden[:, 1:], atol=1e-6
        )
    assert reader.first_bias is not None
    assert reader.second is not None and reader.second_bias is not None
    by_hand = states @ reader.first[...] + reader.first_bias[...]
    by_hand = jax.nn.gelu(by_hand, approximate=False) @ reader.second[...] + reader.second_bias[...]
    np.testing.assert_allclose(found.reshape(by_hand.shape), by_hand, atol=1e-5)


def test_rows_of_text_are_those_of_a_model_without_media():
    batch = random_batch(vocab_size=50)
    with_media, without = build(config("clip")), build(tiny_dense())
    np.testing.assert_array_equal(hidden(with_media, batch), hidden(without, batch))


def loss_and_gradients(mesh, name):
    batch = batch_with_pictures(name)
    with jax.set_mesh(mesh):
        model = build(config(name))
        placed = put_batch(batch, mesh, model.layout.rules)

        @jax.jit
        def run(model, batch):
            def mean(model):
                loss = NextToken()(model, batch)
                return loss.total / loss.weight

            return jax.value_and_grad(mean)(model)

        value, gradients = run(model, placed)
        arrays = {key: np.asarray(p[...]) for key, p in named_parameters(gradients)}
        return float(value), arrays


@pytest.fixture(scope="module")
def alone():
    return loss_and_gradients(one_device_mesh(), "clip")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["mixed", "sequence", "stage"])
def test_losses_and_gradients_are_the_same_on_a_mesh(mesh, alone):
    value, gradients = loss_and_gradients(make_mesh(MESHES[mesh]), "clip")
    np.testing.assert_allclose(value, alone[0], rtol=2e-6)
    largest = max(np.abs(gradient).max() for gradient in alone[1].values())
    for key, gradient in alone[1].items():
        scale = max(np.abs(gradient).max(), 1e-3 * largest)
        np.testing.assert_allclose(gradients[key] / scale, gradient / scale, atol=5e-5)


@pytest.mark.slow
def test_an_encoder_is_trained_unless_it_is_frozen(alone):
    gradients = {key: np.abs(one).max() for key, one in alone[1].items() if "encoder" in key}
    read = [key for key in gradients if "attention.out" in key]
    assert read and all(gradients[key] > 0 for key in read)
    left = dict(named_parameters(trained(build(config("frozen")))))
    assert not any(".encoder." in name for name in left)
    assert any(name.startswith("media.0.first") for name in left)


def test_a_cache_with_pictures_in_the_prompt_equals_the_whole_pass():
    model, batch = build(config("clip")), batch_with_pictures()
    length = batch.shape[1]
    ones = np.ones(batch.shape, np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), batch.shape)
    batch = dataclasses.replace(batch, positions=positions, segment_ids=ones)
    whole = hidden(model, batch)
    cache = empty_cache(model.config, len(ones), length, model.layout)
    prompt = jax.tree.map(lambda x: x[:, :41], dataclasses.replace(batch, media=None))
    output = model(dataclasses.replace(prompt, media=batch.media), cache)
    parts = [output.hidden]
    for place in range(41, length):
        one = jax.tree.map(
            lambda x, at=place: x[:, at : at + 1], dataclasses.replace(batch, media=None)
        )
        output = model(one, output.cache)
        parts.append(output.hidden)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"\['image'\] as vectors.*model.media"):
        build(tiny_dense())(batch_with_pictures())
    with pytest.raises(ConfigError, match="pool=3 does not divide the 4 x 4"):
        MediaInput(encoder=CLIP, token=TOKEN, projector=Projector(pool=3))
    with pytest.raises(ConfigError, match="encoder_layers=-2 is none of the encoder's 2 blocks"):
        MediaInput(encoder=CLIP, token=TOKEN, encoder_layers=-2)
    with pytest.raises(ConfigError, match=r"token=64 is beyond model.vocab_size=64"):
        tiny_dense(media=(dataclasses.replace(INPUTS["clip"], token=64),))
    with pytest.raises(ConfigError, match="give one input of each"):
        tiny_dense(media=(INPUTS["clip"], INPUTS["patches"]))


def test_flops_of_the_forward_pass_are_those_of_the_compiled_program():
    batch = batch_with_pictures()
    model = build(config("clip"))

    def flops(batch) -> float:
        run = jax.jit(lambda model, batch: model(batch).hidden)
        cost: Any = run.lower(model, batch).compile().cost_analysis()
        return cost["flops"]

    extra = flops(batch) - flops(dataclasses.replace(batch, media=None))
    ours = 8 * 2 * sum(media_flops(INPUTS["clip"], 32))
    # Norms, softmax and activations are no matrix products; a scanned block counts once, as here.
    assert 1.0 < extra / ours < 1.35
