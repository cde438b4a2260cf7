"""NEFTune's noise: as large as its paper says, in training passes, and nowhere else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, random_batch, tiny_dense

from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.embedding_noise import with_noise
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.loading import put_batch

KEY = jax.random.key(0)


def test_its_size_is_the_papers_for_each_segment():
    """At most alpha / sqrt(L d), with the mean square of a uniform draw, a third of its square."""
    batch, alpha, width = random_batch(batch_size=64), 5.0, 48
    x = jnp.ones((*batch.shape, width))
    with using(Layout()):
        noise = np.asarray(with_noise(x, batch.segment_ids, alpha, KEY) - x)
    for segment in (1, 2):
        is_of = batch.segment_ids[0] == segment
        most = alpha / np.sqrt(is_of.sum() * width)
        found = noise[:, is_of]
        assert 0.99 * most < np.abs(found).max() <= 1.001 * most
        assert np.square(found).mean() == pytest.approx(most**2 / 3, rel=0.03)
        assert abs(found.mean()) < 0.02 * most


@pytest.mark.slow
def test_it_is_there_in_training_alone():
    quiet = tiny_dense()
    noisy = dataclasses.replace(quiet, embedding_noise=10.0)
    assert noisy.differs_in_training and not quiet.differs_in_training
    batch, objective = random_batch(), NextToken()
    models = build(quiet), build(noisy)

    def loss(model, key):
        return float(objective(model, batch, key).total)

    assert loss(models[0], KEY) == loss(models[0], None) == loss(models[1], None)
    assert loss(models[1], KEY) != pytest.approx(loss(models[1], None), rel=1e-4)
    assert loss(models[1], KEY) == loss(models[1], KEY) != loss(models[1], jax.random.key(1))
    with_key = str(jax.make_jaxpr(lambda m: objective(m, batch, KEY).total)(models[0]))
    assert with_key == str(jax.make_jaxpr(lambda m: objective(m, batch, None).total)(models[0]))


@pytest.mark.slow
def test_it_is_the_same_on_every_mesh():
    config = tiny_dense(embedding_noise=10.0)
    meshes = (MeshConfig(data=1, fsdp=2, tensor=2), MeshConfig(data=2, sequence=2))
    found = []
    for mesh in (one_device_mesh(), *(make_mesh(one, jax.devices()[:4]) for one in meshes)):
        with jax.set_mesh(mesh):
            model = build(config)
            batch = put_batch(random_batch(), mesh, model.layout.rules)
            loss = jax.jit(lambda model, batch: NextToken()(model, batch, KEY).total)
            found.append(float(loss(model, batch)))
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)
