import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.ops.lookup import lookup
from jaxgen.sharding.layout import Layout, spec, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh


@pytest.mark.parametrize("mesh", [None, MeshConfig(data=8), MeshConfig(data=2, tensor=4)])
def test_gradients_of_a_frequent_token_are_summed_in_float32(mesh):
    """In bfloat16 a sum of ones stays at 256."""

    def total(table, ids):
        return jnp.sum(lookup(table, ids, "vocab").astype(jnp.float32))

    table, ids = jnp.zeros((8, 4), jnp.bfloat16), jnp.full((8, 512), 3)
    with using(Layout()):
        if mesh is None:
            gradient = jax.grad(total)(table, ids)
        else:
            with jax.set_mesh(make_mesh(mesh)):
                table = jax.device_put(table, spec("vocab", None))
                ids = jax.device_put(ids, spec("batch", "length"))
                gradient = jax.jit(jax.grad(total))(table, ids)
    gradient = np.asarray(gradient, np.float32)
    np.testing.assert_array_equal(gradient[3], 4096)
    assert not np.delete(gradient, 3, axis=0).any()
