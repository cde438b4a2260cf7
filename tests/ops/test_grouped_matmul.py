"""All implementations against a loop over rows, and their gradients against one another."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.ops import grouped_kernels
from jaxgen.ops.grouped_kernels import hopper_refusal
from jaxgen.ops.grouped_matmul import grouped_matmul, make_row_blocks

BLOCK = 4


def rows_in_blocks(sizes, width, seed=0):
    """Random rows laid out by group, zeros in the padding, and each row's group (-1: padding)."""
    random = np.random.default_rng(seed)
    layout = make_row_blocks(jnp.array(sizes, jnp.int32), MAX_ROWS, BLOCK)
    rows = np.zeros((len(layout.block_groups) * BLOCK, width), np.float32)
    groups = np.full(len(rows), -1)
    start = 0
    for group, size in enumerate(sizes):
        rows[start : start + size] = random.normal(size=(size, width))
        groups[start : start + size] = group
        start += -(-size // BLOCK) * BLOCK
    return layout, rows, groups


MAX_ROWS = 40
sizes_of_groups = st.lists(st.integers(0, 10), min_size=4, max_size=4)


@pytest.mark.parametrize("implementation", ["blocks", "ragged_dot", "megablox"])
@settings(max_examples=20, deadline=None)
@given(sizes=sizes_of_groups)
def test_each_row_meets_its_groups_matrix(implementation, sizes):
    layout, rows, groups = rows_in_blocks(sizes, width=5)
    matrices = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
    got = np.asarray(grouped_matmul(jnp.array(rows), jnp.array(matrices), layout, implementation))
    for row, group, result in zip(rows, groups, got, strict=True):
        expected = row @ matrices[group] if group >= 0 else np.zeros(3)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", ["blocks", "megablox"])
@settings(max_examples=10, deadline=None)
@given(sizes=sizes_of_groups)
def test_gradients_equal_those_of_ragged_dot(implementation, sizes):
    layout, rows, _ = rows_in_blocks(sizes, width=5)
    matrices = jnp.array(np.random.default_rng(1).normal(size=(4, 5, 3)), jnp.float32)
    cotangent = jnp.array(np.random.default_rng(2).normal(size=(len(rows), 3)), jnp.float32)
    is_row = (np.repeat(np.arange(len(rows) // BLOCK), BLOCK) < layout.num_blocks)[:, None]
    check_against_ragged_dot(implementation, jnp.array(rows), matrices, layout, is_row * cotangent)


def check_against_ragged_dot(implementation, rows, matrices, layout, cotangent):
    def loss(rows, matrices, implementation):
        return jnp.vdot(grouped_matmul(rows, matrices, layout, implementation), cotangent)

    differentiate = jax.value_and_grad(loss, (0, 1))
    got, expected = (differentiate(rows, matrices, one) for one in (implementation, "ragged_dot"))
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        scale = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(128, 0, 384, 640), (0, 0, 0, 0)])
def test_megablox_takes_widths_in_uneven_parts(sizes, monkeypatch):
    """700 in parts of 512 and 188, 200 in parts of 128 and 72, both more than a part may be."""
    monkeypatch.setattr(grouped_kernels, "_part", lambda width, most: 512 if width > 512 else 128)
    layout = make_row_blocks(jnp.array(sizes, jnp.int32), 1280, 128)
    random = np.random.default_rng(0)
    shape = len(layout.block_groups) * 128, 700
    matrices = jnp.array(random.normal(size=(4, 700, 200)) / 26, jnp.float32)
    rows, cotangent = (
        jnp.array(random.normal(size=(shape[0], width)), jnp.float32).at[sum(sizes):].set(0)
        for width in (700, 200)
    )  # fmt: skip
    check_against_ragged_dot("megablox", rows, matrices, layout, cotangent)


def test_what_the_kernels_for_gpu_refuse():
    assert "bfloat16 and float16, not float32" in (hopper_refusal((256, 512), jnp.float32) or "")
    assert "(256, 96) are not all multiples of 128" in (
        hopper_refusal((256, 96), jnp.bfloat16) or ""
    )
    assert "no GPU is here" in (hopper_refusal((256, 512), jnp.bfloat16) or "")


def test_the_kernels_for_gpu_lower_with_their_gradient(monkeypatch):
    """As far as they can be tested without a GPU; they ask the first device for its cores."""
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(core_count=132)])
    layout = make_row_blocks(jnp.array([128, 0, 256], jnp.int32), 512, 128)

    def loss(rows, matrices):
        return jnp.sum(grouped_matmul(rows, matrices, layout, "hopper").astype(jnp.float32))

    rows = jax.ShapeDtypeStruct((len(layout.block_groups) * 128, 256), jnp.bfloat16)
    matrices = jax.ShapeDtypeStruct((3, 256, 384), jnp.bfloat16)
    traced = jax.jit(jax.grad(loss, (0, 1))).trace(rows, matrices)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("mosaic_gpu") >= 2 and "ragged_dot" not in text


def test_the_layout_counts_blocks():
    layout = make_row_blocks(jnp.array([5, 0, 4, 1], jnp.int32), 12, 4)
    assert layout.num_blocks == 4
    assert layout.block_groups[:4].tolist() == [0, 0, 2, 3]
    assert layout.group_rows.tolist() == [8, 0, 4, 4]


def test_a_row_that_is_not_finite_stays_in_its_group():
    layout, rows, _ = rows_in_blocks([3, 6, 0, 2], width=5)
    rows[0, 0] = np.nan
    matrices = jnp.ones((4, 5, 3))
    gradient = jax.grad(lambda m: grouped_matmul(jnp.array(rows), m, layout, "blocks").sum())
    assert np.isnan(gradient(matrices)[0]).any()
    assert np.isfinite(gradient(matrices)[1:]).all()
