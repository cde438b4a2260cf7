"""Both implementations against a loop over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("implementation", ["blocks", "ragged_dot"])
@settings(max_examples=20, deadline=None)
@given(sizes=sizes_of_groups)
def test_each_row_meets_its_groups_matrix(implementation, sizes):
    layout, rows, groups = rows_in_blocks(sizes, width=5)
    matrices = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
    got = np.asarray(grouped_matmul(jnp.array(rows), jnp.array(matrices), layout, implementation))
    for row, group, result in zip(rows, groups, got, strict=True):
        expected = row @ matrices[group] if group >= 0 else np.zeros(3)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(sizes=sizes_of_groups)
def test_gradients_of_the_blocks_equal_those_of_ragged_dot(sizes):
    layout, rows, _ = rows_in_blocks(sizes, width=5)
    matrices = jnp.array(np.random.default_rng(1).normal(size=(4, 5, 3)), jnp.float32)
    cotangent = jnp.array(np.random.default_rng(2).normal(size=(len(rows), 3)), jnp.float32)
    is_row = (np.repeat(np.arange(len(rows) // BLOCK), BLOCK) < layout.num_blocks)[:, None]

    def loss(rows, matrices, implementation):
        out = grouped_matmul(rows, matrices, layout, implementation)
        return jnp.vdot(jnp.where(is_row, out, 0), cotangent)

    differentiate = jax.grad(loss, (0, 1))
    for got, expected in zip(
        differentiate(jnp.array(rows), matrices, "blocks"),
        differentiate(jnp.array(rows), matrices, "ragged_dot"),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


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
