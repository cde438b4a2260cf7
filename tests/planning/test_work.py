"""The work of programs that JAX compiles for CPU, against what they are made to do."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P
from support.helpers import tiny_dense

from jaxgen.batch import token_batch_spec
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.planning.compiling import compile_train_step
from jaxgen.planning.work import read_work
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch
from jaxgen.training.program import build_program


def work_of(mesh, function, *arguments):
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    with jax.set_mesh(mesh):
        text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    return read_work(text, sizes)


def test_a_scan_of_gathers_over_one_axis():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((4, 64)), P())
        w = jax.device_put(jnp.ones((5, 64, 64)), P(None, "fsdp"))

    def scanned(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ jax.reshard(w, P())), None), x, w)[0]

    work = work_of(mesh, scanned, x, w)
    assert work.flops == 5 * 2 * 4 * 64 * 64
    (gather,) = [one for one in work.collectives if one.kind == "all-gather"]
    assert (gather.axes, gather.calls, gather.bytes) == (("fsdp",), 5, 5 * 4 * 64 * 64)


@pytest.mark.parametrize(
    ("axis", "kind", "call"),
    [
        ("tensor", "all-reduce", lambda x: jax.lax.psum(x, "tensor")),
        ("data", "all-to-all", lambda x: jax.lax.all_to_all(x, "data", 0, 0, tiled=True)),
        ("fsdp", "collective-permute", lambda x: jax.lax.ppermute(x, "fsdp", [(0, 1), (1, 0)])),
    ],
)
def test_collectives_by_kind_and_axis(axis, kind, call):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    spec = P(("data", "fsdp", "tensor"))
    out = P(("data", "fsdp")) if kind == "all-reduce" else spec
    mapped = jax.shard_map(call, in_specs=spec, out_specs=out, mesh=mesh)
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones((64, 16)), spec)
    (found,) = work_of(mesh, mapped, x).collectives
    assert (found.kind, found.axes, found.calls, found.bytes) == (kind, (axis,), 1, 4 * 8 * 16)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_flops_of_a_train_step_are_the_closed_form(remat):
    """Full rematerialisation runs a block's forward pass again, but for its last product."""
    model = tiny_dense(layers=(LayerConfig((BlockCausal(),)),), num_layers=3, tie_embeddings=False)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    train, execution = TrainConfig(steps=1, length=64, batch_size=8), ExecutionConfig(remat=remat)
    program = build_program(model, train, mesh, execution)
    compiled = compile_train_step(program, abstract_batch(token_batch_spec(8, 64), mesh, Rules()))
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    assert compiled.text is not None
    flops = 8 * read_work(compiled.text, sizes).flops
    tokens, head = 8 * 64, 2 * model.embed_dim * model.vocab_size
    expected = tokens * model.flops(64)
    if remat == "full":
        last = 2 * model.embed_dim * model.mlp_dim
        expected += tokens * (model.flops(64) / 3 - head - model.num_layers * last)
    assert flops == pytest.approx(expected, rel=0.001)
