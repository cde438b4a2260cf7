"""Decoding with a cache gives what the full forward pass gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import (
    MESHES,
    build,
    families,
    one_row,
    source_of,
    spread,
    tiny_dense,
    tiny_model,
)
from support.tiers import slow_but

from jaxgen.models.block_config import LayerConfig
from jaxgen.models.cache import empty_cache
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

# An encoder alone sees the tokens to come, so there is nothing to decode step by step.
CAUSAL = [family for family in families() if family != "bert"]


def one_segment(length=12, vocab_size=64):
    batch = one_row(length, vocab_size, batch_size=8)
    return dataclasses.replace(batch, segment_ids=2 * batch.segment_ids)


def check_decoding(config, batch, prefill):
    """A prefill, then single tokens, against all tokens at once."""
    model = spread(build(config))
    run = jax.jit(lambda model, batch, cache: model(batch, cache))
    whole = run(model, batch, None).hidden
    cache = empty_cache(config, batch.shape[0], batch.shape[1] + 3, Layout())
    length, parts = batch.shape[1], []
    source = batch.encoder
    for start, end in [(0, prefill), *((i, i + 1) for i in range(prefill, length))]:
        piece = dataclasses.replace(batch, encoder=None)
        piece = jax.tree.map(lambda x, columns=slice(start, end): x[:, columns], piece)
        if start == 0:
            piece = dataclasses.replace(piece, encoder=source)
        output = run(model, piece, cache)
        parts.append(output.hidden)
        cache = output.cache
    scale = np.abs(whole).max()
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1) / scale, whole / scale, atol=1e-5)


@pytest.mark.parametrize("family", slow_but(("gpt2", "t5"), CAUSAL))
def test_prefill_then_single_tokens_equal_the_whole(family):
    config = tiny_model(family)
    # Longer than the windows, chunks and bands of 16.
    batch = one_segment(24, config.vocab_size)
    if config.has_encoder:
        batch = dataclasses.replace(batch, encoder=source_of(batch, 17))
    check_decoding(config, batch, 14)


@pytest.mark.slow
def test_tokens_of_a_prefix_see_each_other_in_a_cache():
    config = tiny_dense(layers=(LayerConfig(mask=(BlockCausal(),)),))
    batch = one_segment()
    check_decoding(config, dataclasses.replace(batch, block_ids=np.maximum(batch.positions, 6)), 7)


def test_padding_is_not_kept():
    batch = one_segment()
    model = build(tiny_dense())
    padded = dataclasses.replace(batch, segment_ids=(batch.positions < 7).astype(np.int32))
    cache = model(padded, empty_cache(model.config, 8, 16, Layout())).cache
    assert cache is not None
    assert cache.filled.sum(axis=1).tolist() == [7] * 8


@pytest.mark.slow
def test_the_cache_is_split_like_the_heads():
    mesh = make_mesh(MESHES["tensor"])
    batch = one_segment()
    expected = build(tiny_dense())(batch).hidden
    with jax.set_mesh(mesh):
        model = build(tiny_dense())
        cache = empty_cache(model.config, 8, 16, Layout())
        output = model(put_batch(batch, mesh, Rules()), cache)
        assert output.cache is not None
        assert output.cache.key_values[0][0][0].sharding.spec[:3] == (
            None, ("data", "fsdp", "expert", "stage"), "tensor",
        )  # fmt: skip
    np.testing.assert_allclose(output.hidden, expected, rtol=1e-4, atol=1e-5)
