"""Contrastive losses against the dense formulas, on any mesh, and what they keep in memory."""

import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import one_device_mesh, spread
from support.pairs import PAIRS, build_pair, random_pairs

from jaxgen.errors import ConfigError
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.contrastive import Contrastive, pair_losses
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program

MESHES = {
    "data": MeshConfig(data=8),
    "mixed": MeshConfig(data=2, fsdp=2, tensor=2),
    "stage": MeshConfig(data=2, tensor=2, stage=2),
}
KINDS = {"clip": Contrastive("softmax"), "siglip": Contrastive("sigmoid")}


def dense(images, texts, scale, bias, kind):
    """The formulas of the papers, over the whole matrix of logits."""
    logits = scale * images @ texts.T + bias
    if kind == "sigmoid":
        return -jax.nn.log_sigmoid((2 * jnp.eye(len(logits)) - 1) * logits).sum()
    return -sum(jnp.diagonal(jax.nn.log_softmax(logits, axis)).sum() for axis in (0, 1)) / 2


def features(batch, embed=12, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(2, batch, embed))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x.astype(np.float32)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mesh", [None, "data", "mixed"])
@pytest.mark.parametrize("at_a_time", [6, 10**6])
def test_values_and_gradients_are_those_of_the_whole_matrix(kind, mesh, at_a_time):
    arguments: Any = (*features(16), np.float32(9.0), np.float32(-3.0))
    every, of_kind = (0, 1, 2, 3), functools.partial(dense, kind=kind)
    differentiate: Any = jax.value_and_grad(of_kind, every)
    expected, expected_gradients = differentiate(*arguments)

    def total(*arguments: Any) -> Any:
        return pair_losses(*arguments, kind=kind, logits_at_a_time=at_a_time).total / 16

    if mesh is None:
        found, gradients = jax.jit(jax.value_and_grad(total, every))(*arguments)
    else:
        placed = make_mesh(MESHES[mesh])
        rows = jax.NamedSharding(placed, Rules().activation("batch", None))
        with jax.set_mesh(placed):
            arguments = [jax.device_put(x, rows if x.ndim else jax.P()) for x in arguments]
            found, gradients = jax.jit(jax.value_and_grad(total, every))(*arguments)
    np.testing.assert_allclose(found, expected / 16, rtol=1e-6)
    for gradient, one in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, one / 16, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_large_scale_overflows_nowhere(kind):
    images, texts = features(16)
    found = jax.value_and_grad(lambda x: pair_losses(x, texts, 5e3, -10.0, kind).total)(images)
    expected = jax.value_and_grad(lambda x: dense(x, texts, 5e3, -10.0, kind))(images)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(other).max()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_shares_of_images_and_texts_that_find_their_own(kind):
    images, texts = np.eye(6, dtype=np.float32)[:5], np.eye(6, dtype=np.float32)[:5].copy()
    texts[1], texts[2] = images[2], images[1]  # Swapped: neither direction finds them.
    texts[4] = images[0]  # Image 4 sees nothing like its text, nor text 4 its image.
    found = pair_losses(images, texts, 3.0, 0.0, kind, logits_at_a_time=4)
    # Image 0 has two equal texts, of which none is its own; image 4 has none.
    assert (float(found.text_of_image), float(found.image_of_text)) == (1.0, 2.0)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_model_to_which_all_is_alike_finds_nothing(kind):
    alike = np.ones((8, 1), np.float32)
    found = pair_losses(alike, alike, 3.0, 0.0, kind, logits_at_a_time=16)
    assert (float(found.text_of_image), float(found.image_of_text)) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_no_device_holds_the_matrix_of_logits(kind):
    """Of 4,096 pairs on 8 devices the matrix takes 64 MiB, and a device's rows of it 8 MiB."""
    batch, embed = 4096, 16
    mesh = make_mesh(MeshConfig(data=8))
    rows = jax.NamedSharding(mesh, Rules().activation("batch", None))
    array = jax.ShapeDtypeStruct((batch, embed), jnp.float32, sharding=rows)

    def total(images, texts):
        return pair_losses(images, texts, 10.0, -10.0, kind, logits_at_a_time=2**16).total

    with jax.set_mesh(mesh):
        compiled: Any = jax.jit(jax.grad(total, (0, 1))).lower(array, array).compile()
    largest = max(
        np.prod([int(n) for n in shape.split(",")], dtype=np.int64)
        for shape in re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    )
    assert largest <= 2**17  # Blocks of the logits, or the features of all texts.
    # Of its features all devices' are kept, for the backward pass: 1.5 MiB.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 2**20 < 4 * batch**2 / 8


@functools.cache
def loss_and_gradients(name, mesh=None):
    config, objective = PAIRS[name], KINDS[name]
    mesh = one_device_mesh() if mesh is None else make_mesh(MESHES[mesh])
    with jax.set_mesh(mesh):
        model = jax.jit(spread)(build_pair(config, Layout()))
        batch = put_batch(random_pairs(config), mesh, model.layout.rules)

        def mean(model):
            loss = objective(model, batch, None)
            return loss.total / loss.weight, loss.metrics

        (loss, metrics), gradients = jax.jit(jax.value_and_grad(mean, has_aux=True))(model)
    named = {path: np.asarray(p[...]) for path, p in named_parameters(gradients)}
    return float(loss), {key: float(one.total) for key, one in metrics.items()}, named


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mesh"), list(itertools.product(PAIRS, MESHES)))
def test_a_model_has_the_same_loss_and_gradients_on_every_mesh(name, mesh):
    loss, metrics, gradients = loss_and_gradients(name, mesh)
    expected, expected_metrics, expected_gradients = loss_and_gradients(name)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for key, one in expected_metrics.items():
        np.testing.assert_allclose(metrics[key], one, rtol=1e-5)
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, expected_gradients[path], rtol=1e-4, atol=1e-6, err_msg=path
        )


def test_a_batch_is_not_worked_through_in_microbatches():
    train = TrainConfig(steps=1, batch_size=16, length=12)
    with pytest.raises(ConfigError, match="accumulation=2"):
        build_program(
            PAIRS["clip"], train, one_device_mesh(), ExecutionConfig(accumulation=2), KINDS["clip"]
        )
