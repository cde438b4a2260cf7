"""Batches on the mesh: any pytree, split as its fields declare, from each process its own rows."""

import dataclasses
from typing import Annotated, Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import MESHES, random_batch

from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import ProcessRows, process_rows, put_batch


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clip:
    frames: Annotated[Any, ("batch", "length", None)]
    label: Any
    names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})


def test_fields_are_split_by_their_axes_and_other_arrays_by_rows():
    mesh = make_mesh(MESHES["sequence"])  # data=2, sequence=2, tensor=2
    clip = Clip(np.arange(96.0).reshape(4, 8, 3), {"id": np.arange(4)}, ("clip",))
    placed = put_batch(clip, mesh, Rules())
    shapes = [x.addressable_shards[0].data.shape for x in jax.tree.leaves(placed)]
    assert shapes == [(2, 4, 3), (2,)]
    assert placed.names == ("clip",)
    jax.tree.map(np.testing.assert_array_equal, placed, clip)


def test_microbatches_are_stretches_of_the_rows():
    mesh, batch = make_mesh(MESHES["data"]), random_batch(batch_size=32)
    placed = put_batch(batch, mesh, Rules(), accumulation=4)
    np.testing.assert_array_equal(np.asarray(placed.tokens).reshape(32, -1), batch.tokens)
    assert placed.task_names == batch.task_names


@pytest.mark.parametrize("name", sorted(MESHES))
def test_a_process_reads_the_rows_of_its_devices(name):
    """The only process here has all devices, and so all rows."""
    rows = process_rows(make_mesh(MESHES[name]), Rules(), microbatch_size=8)
    assert rows(8) == list(range(8)) and rows(24) == list(range(24))
    assert process_rows(make_mesh(MESHES[name]), Rules(), 8, process=1)(8) == []


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)
)
def test_processes_share_the_rows_of_every_microbatch(processes, stretches, size, micros, smaller):
    parts = processes * stretches
    micro = parts * size * smaller
    own = [tuple(range(p * stretches, (p + 1) * stretches)) for p in range(processes)]
    # A batch of a ramp may be smaller than a microbatch.
    for batch in (micro * micros, parts * size):
        shares = [ProcessRows(micro, parts, part)(batch) for part in own]
        assert sorted(row for share in shares for row in share) == list(range(batch))
        assert len({len(share) for share in shares}) == 1
        in_one = min(micro, batch)
        for share in shares:
            counts = np.bincount(np.array(share) // in_one, minlength=batch // in_one)
            assert (counts == in_one // processes).all()
