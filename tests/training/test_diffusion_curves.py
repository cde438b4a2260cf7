"""Tiny Imagen, DALL-E 2, Stable Diffusion and a transformer learn on eight devices as on one."""

import functools

import jax
import numpy as np
import pytest
from support.helpers import MESHES, one_device_mesh
from support.tiny_diffusion import BINDINGS, tiny_run

from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program

pytestmark = pytest.mark.slow
STEPS = 3


@functools.cache
def curve(name: str, mesh_name: str) -> list[tuple[float, float]]:
    """(the objective, the gradient's norm) of each step."""
    mesh = one_device_mesh() if mesh_name == "one" else make_mesh(MESHES[mesh_name])
    config = tiny_run(name)
    length = config.train.length
    data = config.mixture.open(batch_size=8, length=length, seed=0)
    program = build_program(config.model, config.train, mesh, objective=config.objective)
    found = []
    with jax.set_mesh(mesh):
        state, step = program.fresh_state(), program.train_step()
        for index in range(STEPS):
            state, metrics = step(state, put_batch(data.batch(index), mesh, program.layout.rules))
            found.append((float(metrics.objective), float(metrics.gradient_norm)))
    return found


@pytest.mark.parametrize("mesh_name", ["fsdp", "mixed"])
@pytest.mark.parametrize("name", BINDINGS)
def test_a_curve_on_eight_devices_is_that_on_one(name, mesh_name):
    alone = np.array(curve(name, "one"))
    assert np.isfinite(alone).all() and (alone[:, 1] > 0).all()
    np.testing.assert_allclose(curve(name, mesh_name), alone, rtol=5e-4)
