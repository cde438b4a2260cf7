"""Ring attention against dense attention on one device, and what goes round."""

import dataclasses

import jax
import numpy as np
import pytest
from support.attention_calls import make_call, outputs_and_gradients

from jaxgen.ops.attention.biases import Alibi, RelativeBias
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.masks import (
    AttentionMask,
    Bidirectional,
    BlockCausal,
    Causal,
    Chunked,
    Window,
)
from jaxgen.ops.attention.ring import ring_attention
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules

ROWS = [[9, 21, 13, 5], [48, 0], [1, 30, 17], [24, 24]]
CAUSAL, WINDOW = (Causal(),), (Causal(), Window(9))


def split_over(mesh, call, rules=Rules()):
    """The same call with every array split as in a model on this mesh."""

    def put(x, *axes):
        spec = rules.activation(*axes)
        return x if x is None else jax.device_put(x, jax.NamedSharding(mesh, spec))

    def side(one):
        return jax.tree.map(lambda x: put(x, "batch", "length"), one)

    bias = call.bias
    if bias is not None:
        places = put(bias.queries, None, "length")
        table = put(bias.table, None, "heads")
        bias = dataclasses.replace(
            bias, queries=places, keys=places, consecutive=False, table=table
        )
    return dataclasses.replace(
        call,
        query=put(call.query, "batch", "heads", "length", None),
        key=put(call.key, "batch", "kv_heads", "length", None),
        value=put(call.value, "batch", "kv_heads", "length", None),
        mask=AttentionMask(call.mask.predicates, side(call.mask.queries), side(call.mask.keys)),
        bias=bias,
        sinks=put(call.sinks, "heads"),
    )


def on_mesh(call, config, num_devices=8):
    mesh = make_mesh(config, jax.devices()[:num_devices])
    with jax.set_mesh(mesh), using(Layout()):
        split = split_over(mesh, call)
        return jax.jit(lambda call: outputs_and_gradients(call, ring_attention))(split)


@pytest.mark.parametrize(
    ("predicates", "settings", "mesh"),
    [
        (CAUSAL, {"sinks": True, "soft_cap": 2.0}, MeshConfig(sequence=4, data=2)),
        (WINDOW, {"bias": RelativeBias(8, 20), "dims": (8, 4)}, MeshConfig(sequence=8, data=1)),
        ((Bidirectional(),), {"bias": Alibi()}, MeshConfig(sequence=2, tensor=2, data=2)),
        ((Causal(), Chunked(7)), {}, MeshConfig(sequence=3, data=1)),
        ((BlockCausal(),), {"blocks": 5}, MeshConfig(sequence=4, fsdp=2, data=1)),
    ],
)
def test_it_is_dense_attention_with_its_gradients(predicates, settings, mesh):
    call = make_call(predicates, ROWS, **settings)
    expected = jax.jit(lambda call: outputs_and_gradients(call, dense_attention))(call)
    found = on_mesh(call, mesh, 3 if mesh.sequence == 3 else 8)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        other = np.asarray(other)
        largest = max(np.abs(other).max(), 1)
        np.testing.assert_allclose(np.asarray(one) / largest, other / largest, rtol=0, atol=1e-5)


class Recording:
    """A predicate that tells which runs of places it was evaluated for."""

    looks_ahead = True

    def __init__(self, run):
        self.run, self.pairs = run, []

    def allows(self, queries, keys):
        first = queries.block_ids[0, 0], keys.block_ids[0, 0]
        jax.debug.callback(self.record, *first)
        return queries.positions[:, :, None] >= 0

    def record(self, query, key):
        self.pairs.append((int(query) // self.run, int(key) // self.run))


@pytest.mark.parametrize("window", [None, 8])
def test_every_device_has_as_much_to_do_and_nothing_that_the_mask_rules_out(window):
    devices, run = 4, 8
    recording = Recording(run)
    predicates = (Causal(), *(() if window is None else (Window(window),)), recording)
    call = make_call(predicates, [[2 * devices * run, 0]], blocks=1)
    mesh = make_mesh(MeshConfig(data=1, sequence=devices), jax.devices()[:devices])
    with jax.set_mesh(mesh), using(Layout()):
        jax.jit(ring_attention)(split_over(mesh, call)).block_until_ready()
    jax.effects_barrier()
    farthest = 2 * devices if window is None else 1
    runs = range(2 * devices)
    assert sorted(recording.pairs) == [(i, j) for i in runs for j in runs if 0 <= i - j <= farthest]
    device_of = [min(i, 2 * devices - 1 - i) for i, _ in recording.pairs]
    if window is None:
        assert np.bincount(device_of).tolist() == [2 * devices + 1] * devices


@pytest.mark.slow
def test_keys_values_and_their_gradients_go_round_and_nothing_is_gathered():
    devices, batch, length, kv_heads, width = 4, 4, 64, 2, 8
    call = make_call(CAUSAL, [[length, 0]] * batch, heads=4, kv_heads=kv_heads)
    mesh = make_mesh(MeshConfig(data=2, sequence=devices))
    with jax.set_mesh(mesh), using(Layout()):
        step = jax.jit(lambda call: outputs_and_gradients(call, ring_attention))
        text = step.lower(split_over(mesh, call)).compile().as_text() or ""
    work = read_work(text, dict(mesh.shape))
    assert not [one for one in work.collectives if one.kind == "all-gather"]
    found = {one.axes: one for one in work.collectives if one.kind == "collective-permute"}
    assert set(found) == {("sequence",)}
    keys = 4 * (batch // 2) * kv_heads * (length // devices) * width
    queries, ids = 2 * keys, 4 * (batch // 2) * (length // devices)
    # Of the tokens, positions and segments: no predicate here asks for blocks.
    passed = 2 * keys + 2 * ids
    # Zigzag and back: queries, keys, values and the output with their gradients, and both sides.
    exchanged = 2 * (queries + 2 * keys + queries) + 2 * 2 * ids
    there_and_back = 2 * (devices - 1) * passed + devices * 2 * keys
    assert found["sequence",].bytes == exchanged + there_and_back
