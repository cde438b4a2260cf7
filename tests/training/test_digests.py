"""Digests tell any one changed element, and do not see how an array is laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import MESHES

from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.digests import digest

DTYPES = {"float32": np.uint32, "int32": np.uint32, "bfloat16": np.uint16, "uint8": np.uint8}


def from_bits(bits, dtype):
    """An array whose elements have the given bits; NaNs keep theirs."""
    return jax.lax.bitcast_convert_type(jnp.asarray(bits), jnp.dtype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), flip=st.integers(0, 31), data=st.data())
def test_one_flipped_bit_changes_the_digest(dtype, seed, flip, data):
    unsigned = DTYPES[dtype]
    # One shape: each new one would be compiled.
    bits = np.random.default_rng(seed).integers(
        0, np.iinfo(unsigned).max, (3, 5, 7), unsigned, endpoint=True
    )
    before = int(digest(from_bits(bits, dtype)))
    assert before == int(digest(from_bits(bits.copy(), dtype)))
    place = data.draw(st.integers(0, bits.size - 1))
    bits.flat[place] ^= unsigned(1 << flip % (8 * bits.itemsize))
    assert int(digest(from_bits(bits, dtype))) != before


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_elements_that_change_places_change_the_digest(seed):
    random = np.random.default_rng(seed)
    x = random.standard_normal((4, 8), np.float32)
    order = random.permutation(x.size)
    if np.array_equal(order, np.arange(x.size)):
        return
    assert int(digest(jnp.asarray(x))) != int(digest(jnp.asarray(x.flat[order].reshape(x.shape))))


def test_an_element_weighs_by_its_place_in_a_large_array_too():
    x = np.zeros((70_000, 3), np.float32)
    seen = set()
    for row in (0, 1, 32_768, 65_535, 65_536, 69_999):
        x[row] = 1
        seen.add(int(digest(jnp.asarray(x))))
        x[row] = 0
    assert len(seen) == 6


@pytest.mark.parametrize("mesh", ["data", "fsdp", "tensor", "mixed"])
@pytest.mark.parametrize(
    "spec", [jax.P(), jax.P(("data", "fsdp")), jax.P(None, "tensor"), jax.P("fsdp", "tensor")]
)
def test_the_layout_does_not_matter(mesh, spec):
    x = np.random.default_rng(0).standard_normal((16, 8), np.float32)
    sharded = jax.device_put(x, jax.NamedSharding(make_mesh(MESHES[mesh]), spec))
    assert int(digest(sharded)) == int(digest(jnp.asarray(x)))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_odd_shapes_have_a_digest(shape):
    assert digest(jnp.ones(shape, jnp.int32)).shape == ()
    assert digest(jnp.ones(shape, bool)).dtype == jnp.uint32
