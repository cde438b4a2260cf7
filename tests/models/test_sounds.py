"""Sounds among the text and before it: counted, where they belong, and the same on a mesh."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import MESHES, build, one_device_mesh, random_batch, tiny_dense, tiny_gpt2
from support.pairs import BOTH_WAYS, SIZES, tiny_clip

from jaxgen.errors import ConfigError
from jaxgen.models.audio_config import AudioConfig
from jaxgen.models.base import abstract_model
from jaxgen.models.media_config import MediaInput
from jaxgen.models.parameters import named_parameters
from jaxgen.models.stack_config import StackConfig
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch
from jaxgen.training.state import trained

BIASES = ("qv", "attention_out", "feed_forward", "norm")
STACK = StackConfig(**(SIZES | {"biases": BIASES, "activation": "gelu"}), layers=BOTH_WAYS)
AUDIO = AudioConfig(stack=STACK, num_frames=12, bands=8)
SOUND, IMAGE = 61, 60
BOTH = tiny_dense(
    media=(
        MediaInput(encoder=tiny_clip().vision, token=IMAGE),
        MediaInput(encoder=AUDIO, token=SOUND, modality="audio"),
    )
)
BEFORE = tiny_gpt2(biases=BIASES, num_kv_heads=8, sound=AUDIO)
MODELS = {"among": BOTH, "before": BEFORE}


def batch_for(name):
    """Rows of two segments, in which a sound stands beside a picture, or two are heard."""
    batch, random = random_batch(vocab_size=50), np.random.default_rng(3)
    frames = random.normal(size=(8, 2, 12, 8)).astype(np.float32)
    media = {"audio": frames}
    tokens = np.array(batch.tokens)
    if name == "among":
        tokens[:, 1:7], tokens[:, 8:24] = SOUND, IMAGE
        media["image"] = random.integers(0, 256, (8, 1, 16, 16, 3), np.uint8)
    return dataclasses.replace(batch, tokens=tokens, media=media)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_counted(name):
    abstract = abstract_model(MODELS[name])
    assert MODELS[name].count().total == sum(p.size for _, p in named_parameters(abstract))
    tables = [path for path, _ in named_parameters(abstract) if path.endswith("positions")]
    left = dict(named_parameters(trained(build(MODELS[name]))))
    (table,) = [path for path in tables if path not in left]
    assert table in ("media.1.encoder.positions", "sound.positions"), "the sines are not trained"


def loss_and_gradients(name, mesh):
    batch = batch_for(name)
    with jax.set_mesh(mesh):
        model = build(MODELS[name])
        placed = put_batch(batch, mesh, model.layout.rules)

        @jax.jit
        def run(model, batch):
            def mean(model):
                loss = NextToken()(model, batch)
                return loss.total / loss.weight

            return jax.value_and_grad(mean)(model)

        value, gradients = run(model, placed)
        return float(value), {key: np.asarray(p[...]) for key, p in named_parameters(gradients)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["mixed", "sequence"])
def test_losses_and_gradients_are_the_same_on_a_mesh(name, mesh):
    value, gradients = loss_and_gradients(name, make_mesh(MESHES[mesh]))
    alone, expected = loss_and_gradients(name, one_device_mesh())
    np.testing.assert_allclose(value, alone, rtol=2e-6)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for key, gradient in expected.items():
        scale = max(np.abs(gradient).max(), 1e-3 * largest)
        np.testing.assert_allclose(gradients[key] / scale, gradient / scale, atol=5e-5)


def test_a_segment_hears_its_own_sound_alone():
    model, batch = build(BEFORE), batch_for("before")
    run = jax.jit(lambda model, batch: model(batch).hidden)
    frames = np.array(batch.media["audio"])
    frames[:, 1] *= -1
    first = np.asarray(run(model, batch))
    second = np.asarray(run(model, dataclasses.replace(batch, media={"audio": frames})))
    segments = np.asarray(batch.segment_ids)
    differs = (first != second).any(-1) & (segments > 0)
    np.testing.assert_array_equal(differs, segments == 2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"num_frames=13.*must be even"):
        AudioConfig(stack=STACK, num_frames=13)
    with pytest.raises(ConfigError, match=r"model.sound is an encoder"):
        dataclasses.replace(BEFORE, num_encoder_layers=1)
    with pytest.raises(ConfigError, match="'qkv' and 'qv'"):
        tiny_gpt2(biases=("qkv", "qv"))
