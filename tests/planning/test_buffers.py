"""Large arrays of traced steps."""

import jax
import pytest
from support.helpers import tiny_dense

from jaxgen.batch import token_batch_spec
from jaxgen.planning.buffers import largest_values, saved_activations
from jaxgen.planning.compiling import listed_buffers, memory_in
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch
from jaxgen.training.program import build_program

MODEL = tiny_dense(num_layers=3, tie_embeddings=False)


def traced(mesh, accumulation=1, **execution):
    settings = ExecutionConfig(accumulation=accumulation, **execution)
    train = TrainConfig(steps=1, length=64, batch_size=16)
    program = build_program(MODEL, train, mesh, settings)
    spec = token_batch_spec(16, 64)
    batch = abstract_batch(spec, mesh, Rules(), accumulation)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return program.train_step(accumulation).trace(program.abstract_state(), batch).jaxpr


@pytest.mark.parametrize("accumulation", [1, 2])
def test_full_rematerialisation_keeps_the_inputs_of_the_blocks(accumulation):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    kept = saved_activations(traced(mesh, accumulation, remat="full"), mesh)
    rows = 16 / 4 / accumulation
    assert kept == MODEL.num_layers * rows * 64 * MODEL.embed_dim * 4


def test_activations_fall_with_the_axes_that_split_them():
    kept = []
    for sizes in (MeshConfig(data=1), MeshConfig(data=2), MeshConfig(data=2, sequence=4)):
        count = sizes.data * sizes.sequence
        mesh = make_mesh(sizes, jax.devices()[:count])
        kept.append(saved_activations(traced(mesh, remat="full"), mesh))
    assert kept[0] == 2 * kept[1] == 8 * kept[2]


def test_without_rematerialisation_more_is_kept_and_named():
    mesh = make_mesh(MeshConfig(data=8))
    jaxpr = traced(mesh)
    assert saved_activations(jaxpr, mesh) > 5 * saved_activations(traced(mesh, remat="full"), mesh)
    sizes = [one.bytes for one in largest_values(jaxpr, mesh)]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 8
    assert largest_values(jaxpr, mesh)[0].operation


def test_messages_of_the_compiler():
    listed = """\
RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. \
Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.

  Largest program allocations in hbm:

  1. Size: 1.50G
     Operator: op_type="dot_general" op_name="jit(train_step)/attend/dot_general"
     Shape: f32[16,4096,4096]{2,1,0:T(8,128)}

  2. Size: 512.00M
     Shape: bf16[8,8192,4096]{2,1,0}
"""
    assert memory_in(listed) == {"needed": 20.5 * 2**30}
    first, second = listed_buffers(listed)
    assert (first.bytes, first.operation) == (1.5 * 2**30, "jit(train_step)/attend/dot_general")
    assert second.shape.startswith("bf16[8,8192,4096]")
    short = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (25.11G) exceeds available HBM (15.75G)."
    )
    assert memory_in(short) == {"temporaries": round(25.11 * 2**30)}
    assert listed_buffers(short) == ()
