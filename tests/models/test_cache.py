"""Decoding with a cache gives what the full forward pass gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import MESHES, build, random_batch, tiny_dense, tiny_gpt2, tiny_moe

from jaxgen.models.cache import empty_cache
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

CONFIGS = {
    "rope": tiny_dense(),
    "learned": tiny_gpt2(num_kv_heads=1),
    "moe": tiny_moe(),
}


def one_segment(length=12):
    batch = random_batch(length=length)
    shape = batch.shape
    return dataclasses.replace(
        batch,
        segment_ids=np.ones(shape, np.int32),
        positions=np.broadcast_to(np.arange(length, dtype=np.int32), shape),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_prefill_then_single_tokens_equal_the_whole(name):
    batch = one_segment()
    model = build(CONFIGS[name])
    whole = model(batch).hidden
    cache = empty_cache(model.config, batch.shape[0], 16, Rules())
    parts = []
    for columns in (slice(0, 5), slice(5, 6), slice(6, 12)):
        output = model(jax.tree.map(lambda x, c=columns: x[:, c], batch), cache)
        parts.append(output.hidden)
        cache = output.cache
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, rtol=1e-4, atol=1e-5)


def test_padding_is_not_kept():
    batch = one_segment()
    model = build(CONFIGS["rope"])
    padded = dataclasses.replace(batch, segment_ids=(batch.positions < 7).astype(np.int32))
    cache = model(padded, empty_cache(model.config, 8, 16, Rules())).cache
    assert cache is not None
    assert cache.filled.sum(axis=1).tolist() == [7] * 8


def test_the_cache_is_split_like_the_heads():
    mesh = make_mesh(MESHES["tensor"])
    batch = one_segment()
    expected = build(CONFIGS["rope"])(batch).hidden
    with jax.set_mesh(mesh):
        model = build(CONFIGS["rope"])
        cache = empty_cache(model.config, 8, 16, Rules())
        output = model(put_batch(batch, mesh, Rules()), cache)
        assert output.cache is not None
        assert output.cache.pairs[0][0][0].sharding.spec[:3] == (
            None, ("data", "fsdp", "expert"), "tensor",
        )  # fmt: skip
    np.testing.assert_allclose(output.hidden, expected, rtol=1e-4, atol=1e-5)
