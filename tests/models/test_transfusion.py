"""One model for text and pictures: counts, what sees what, its loss in numpy, meshes, refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.helpers import spread
from support.transfusions import rows, tiny_transfusion

from jaxgen.codecs.bytes import ByteCodec, SpecialTokens
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.vectors import ImageVectors
from jaxgen.data.drawing import rows_to_draw
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Sprites
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.generation.diffusion.guidance import Guidance
from jaxgen.generation.diffusion.samplers import Euler
from jaxgen.generation.diffusion.sampling import PictureSampling, sample_pictures
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.models.transfusion import RowsToDraw
from jaxgen.objectives.next_token import NextToken
from jaxgen.objectives.transfusion import TransfusionLoss
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import RectifiedFlow
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.loading import put_batch

CONFIG = tiny_transfusion()
FLOW = Corruption(schedule=RectifiedFlow(), target="flow")


def build(layout=Layout()):
    return spread(CONFIG.build(nnx.Rngs(0), layout))


def noisy(seed=0, batch=4):
    random = np.random.default_rng(seed)
    return (
        jnp.asarray(random.normal(size=(batch, 3, 4, 4, 3)), jnp.float32),
        jnp.asarray(random.uniform(0, 1000, (batch, 3)), jnp.float32),
    )


run = jax.jit(lambda model, *arguments: model.flow(*arguments))


def test_counts_equal_the_real_tree():
    model = abstract_model(CONFIG)
    count = CONFIG.count()
    assert count.total == count.active == number_of_parameters(model)


@pytest.mark.slow
def test_a_model_begins_by_predicting_nothing_of_pictures():
    model = CONFIG.build(nnx.Rngs(0), Layout())
    assert not run(model, rows(), *noisy()).predictions.any()


def test_pictures_are_found_where_they_are():
    found = run(build(), rows(), *noisy())
    assert found.predictions.shape == (4, 3, 4, 4, 3)
    np.testing.assert_array_equal(found.is_there, [[True, True, False]] * 4)
    np.testing.assert_array_equal(found.first[:, :2], [[5, 14]] * 4)


def test_what_sees_what():
    """A change of one patch or token shows exactly where the mask lets it."""
    model, batch = build(), rows()
    x, time = noisy()
    before = run(model, batch, x, time)

    def differs(after):
        hidden = np.abs(after.output.hidden - before.output.hidden).max(axis=-1)
        return hidden[0] > 1e-6

    # The last patch of the first picture is seen by all its patches, and by what follows.
    after = run(model, batch, x.at[:, 0, 3, 3].add(1), time)
    assert differs(after).tolist() == [False] * 5 + [True] * 7 + [False] * 12
    # So is the picture's time, which is told of image places alone.
    after = run(model, batch, x, time.at[:, 0].add(300))
    assert differs(after).tolist() == [False] * 5 + [True] * 7 + [False] * 12
    # A picture's caption sees it, but not the reverse.
    after = run(model, batch, x.at[:, 1].add(1), time)
    assert differs(after).tolist() == [False] * 14 + [True] * 8 + [False] * 2
    assert np.abs(after.predictions[:, 0] - before.predictions[:, 0]).max() < 1e-6
    other = dataclasses.replace(batch, tokens=batch.tokens.at[:, 20].set(7))
    after = run(model, other, x, time)
    assert differs(after).tolist() == [False] * 20 + [True] * 2 + [False] * 2


def test_clean_pictures_are_read_as_at_time_0():
    model, batch = build(), rows()
    clean = batch.media["image"].astype(jnp.float32) / 127.5 - 1
    told = run(model, batch, clean, jnp.zeros((4, 3)))
    read = jax.jit(lambda model, batch: model(batch))(model, batch)
    np.testing.assert_allclose(read.hidden, told.output.hidden, rtol=1e-5, atol=1e-6)


def test_the_loss_in_numpy():
    """Text and flow, a place each, of the model's own outputs."""
    model, batch = build(), rows()
    objective = TransfusionLoss(corruption=FLOW, picture_weight=3.0, given_noise=0.5)
    caught = {}

    class Watched:
        """The model, of which the noisy pictures that it is given are kept."""

        def __getattr__(self, name):
            return getattr(model, name)

        def flow(self, batch, x, time, key=None):
            caught.update(x=x, time=time, found=model.flow(batch, x, time, key))
            return caught["found"]

    loss = objective(Watched(), batch)
    text = NextToken().of_output(model, batch, caught["found"].output)
    clean = np.asarray(batch.media["image"], np.float64) / 127.5 - 1
    sigma = np.asarray(caught["time"], np.float64)[..., None, None, None] / 1000
    noise = (np.asarray(caught["x"]) - (1 - sigma) * clean) / sigma
    errors = ((np.asarray(caught["found"].predictions) - (noise - clean)) ** 2).mean((2, 3, 4))
    errors = errors[:, :2]
    total = float(text.total) + 3.0 * 4 * errors.sum()
    np.testing.assert_allclose(loss.total, total, rtol=1e-4)
    assert loss.weight == text.weight + 4 * 8
    np.testing.assert_allclose(loss.metrics["flow"].total / 8, errors.mean(), rtol=1e-4)
    # The second picture is there to be described.
    drawn, given = np.asarray(caught["time"])[:, 0], np.asarray(caught["time"])[:, 1]
    assert drawn.max() > 550
    assert given.max() < 501


@pytest.mark.slow
def test_a_mesh_changes_rounding_alone():
    model, batch = build(), rows(8)
    objective = TransfusionLoss(corruption=FLOW)

    def loss(model, batch):
        found = objective(model, batch, jax.random.key(1))
        return found.total / found.weight

    value, gradient = jax.jit(jax.value_and_grad(loss))(model, batch)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        split = jax.eval_shape(lambda: CONFIG.build(nnx.Rngs(0), Layout()))
        placed = jax.tree.map(
            lambda leaf, one: jax.device_put(
                np.asarray(one), jax.NamedSharding(mesh, leaf.sharding.spec)
            ),
            split,
            model,
        )
        own = put_batch(batch, mesh, placed.layout.rules)
        found = jax.jit(jax.value_and_grad(loss))(placed, own)
    np.testing.assert_allclose(value, found[0], rtol=1e-5)
    pairs = zip(named_parameters(gradient), named_parameters(found[1]), strict=True)
    for (path, a), (_, b) in pairs:
        tolerance = 2e-4 * np.abs(a[...]).max() + 1e-6
        np.testing.assert_allclose(a[...], b[...], rtol=0, atol=tolerance, err_msg=path)


CODEC = MultimodalCodec(ByteCodec(SpecialTokens()), (ImageVectors(16, 16, 4, 4, drawn=True),))


def sprites(*fields):
    return Task(
        name="sprites",
        source=Sprites(),
        preprocessors=(Interleave(fields),),
        features=PromptAnswer(),
        codec=CODEC,
    )


def test_rows_say_which_pictures_are_drawn():
    token = CODEC.special_id("<|image|>")
    for fields, is_drawn in ((("description", "image"), True), (("image", "description"), False)):
        data = Mixture("m", (sprites(*fields),)).open(batch_size=2, length=192, seed=0)
        batch = data.batch(0)
        first = np.argmax(batch.tokens == token, axis=1)
        assert (batch.loss_weights[np.arange(2), first - 2] == is_drawn).all()
        # No patch is a target of the next token.
        assert not batch.loss_weights[batch.targets == token].any()


def test_what_no_model_draws_is_refused():
    codec = dataclasses.replace(CODEC, media=(ImageVectors(16, 16, 4, 4),))
    task = dataclasses.replace(sprites("description", "image"), codec=codec)
    with pytest.raises(DataError, match=r"image_vectors\.drawn"):
        Mixture("m", (task,)).open(batch_size=2, length=192, seed=0).batch(0)
    with pytest.raises(DataError, match="draws no pictures"):
        rows_to_draw(["x"], codec, 64)
    with pytest.raises(DataError, match="rows have 20"):
        rows_to_draw(["a red circle"], CODEC, 20)
    with pytest.raises(ConfigError, match=r"image_vectors\.begin"):
        ImageVectors(drawn=True, begin=None)


def test_a_prompt_becomes_a_row_that_ends_with_its_picture():
    batch = rows_to_draw(["ab", None], CODEC, 64)
    token = CODEC.special_id("<|image|>")
    np.testing.assert_array_equal((batch.tokens == token).sum(axis=1), [16, 16])
    lengths = batch.segment_ids.sum(axis=1)
    assert lengths[0] == lengths[1] + 2 == batch.shape[1]
    assert batch.tokens[0, 0] == batch.tokens[1, 0] == CODEC.begin_id


@pytest.mark.slow
def test_drawing_depends_on_the_prompt_and_guidance_of_1_is_none():
    codec = MultimodalCodec(ByteCodec(SpecialTokens()), (ImageVectors(4, 4, 2, 2, drawn=True),))
    token = codec.special_id("<|image|>")
    (media,) = CONFIG.model.media
    inner = dataclasses.replace(
        CONFIG.model, vocab_size=320, media=(dataclasses.replace(media, token=token),)
    )
    model = spread(dataclasses.replace(CONFIG, model=inner).build(nnx.Rngs(0), Layout()))
    told = rows_to_draw(["ab", "ab", "cd"], codec, 64)
    untold = rows_to_draw([None] * 3, codec, 64, told.shape[1])
    keys = jax.vmap(jax.random.key)(np.array([0, 1, 0], np.uint32))

    def draw(scale):
        settings = PictureSampling(Euler(steps=3), Guidance(scale))
        prompts: Any = RowsToDraw(told, untold)
        return np.asarray(sample_pictures(model, FLOW, settings, prompts, keys))

    plain = draw(1.0)
    assert plain.shape == (3, 4, 4, 3)
    assert np.abs(plain[0] - plain[1]).max() > 1e-3  # Another key.
    assert np.abs(plain[0] - plain[2]).max() > 1e-4  # Another prompt.
    np.testing.assert_allclose(draw(1.0), plain)
    assert np.abs(draw(3.0) - plain).max() > 1e-4


def test_refusals():
    with pytest.raises(ConfigError, match="noisy_patches"):
        tiny_transfusion(media=())
    with pytest.raises(ConfigError, match="are causal"):
        tiny_transfusion(layers=(LayerConfig(),))
