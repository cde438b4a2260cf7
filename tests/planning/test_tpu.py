"""Programs that libtpu compiles for TPUs that are not here."""

import importlib.util
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from support.helpers import tiny_dense, tiny_moe

from jaxgen.batch import token_batch_spec
from jaxgen.errors import ShardingError
from jaxgen.models.moe import MoE
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.planning.compiling import compile_train_step
from jaxgen.planning.roofline import roofline
from jaxgen.planning.topology import parse_topology
from jaxgen.planning.work import read_work
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch
from jaxgen.training.program import build_program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu, the compiler for TPU, is not installed: pip install 'jaxgen[plan]'",
    ),
]


@pytest.mark.parametrize("name", ["v4:2x2x2", "v5e:2x4", "v5p:2x2x2", "v6e:2x4", "7x:2x2x1"])
def test_devices_of_every_kind_of_chip(name):
    topology = parse_topology(name)
    assert len(topology.devices()) == topology.num_devices == 8


def test_a_train_step_for_tpu_does_what_the_closed_form_says():
    topology = parse_topology("v5e:2x4")
    model = tiny_dense(
        num_layers=3, embed_dim=256, num_heads=4, num_kv_heads=4, mlp_dim=512, vocab_size=512,
        tie_embeddings=False, compute_dtype="bfloat16",
    )  # fmt: skip
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), topology.devices())
    program = build_program(model, TrainConfig(steps=1, length=128, batch_size=8), mesh)
    batch = abstract_batch(token_batch_spec(8, 128), mesh, Rules())
    compiled = compile_train_step(program, batch)
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    assert compiled.text is not None and compiled.arguments > 0
    work = read_work(compiled.text, sizes)
    # Causal attention leaves out up to half of its products.
    assert 0.8 < 8 * work.flops / (8 * 128 * model.flops(128)) < 1.02
    found = {(one.kind, one.axes): one for one in work.collectives}
    weights = 3 * 256 * (4 * 256 + 2 * 512) / 2  # a device's half of the blocks' matrices
    for kind in ("all-gather", "reduce-scatter"):
        assert weights < found[kind, ("fsdp",)].bytes < 8 * weights
    assert ("all-reduce", ("tensor",)) in found
    times = roofline(work, topology, list(mesh.devices.flat))
    assert times is not None and times.compute == work.flops / 197e12


def test_a_sparse_layer_for_tpu_exchanges_tokens_and_visits_each_row_once():
    """`jax.lax.ragged_dot` made 5.3 times the operations of such a step."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, expert=4), parse_topology("v5e:2x4").devices())
    model = tiny_moe(embed_dim=256, moe=MoEConfig(8, 2, mlp_dim=512))
    rows = Rules().activation("batch", "length", None)
    segments = Rules().activation("batch", "length")

    def abstract(value, spec):
        sharding = jax.sharding.NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    def loss(layer, x, segment_ids):
        return jnp.sum(jnp.square(layer(x, RoutedTokens(segment_ids))[0].astype(jnp.float32)))

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh), using(Layout()):
        layer = jax.eval_shape(lambda: MoE(model, nnx.Rngs(0)))
        layer = jax.tree.map(lambda value: abstract(value, value.sharding.spec), layer)
        x = abstract(jax.ShapeDtypeStruct((16, 512, 256), jnp.bfloat16), rows)
        segment_ids = abstract(jax.ShapeDtypeStruct((16, 512), jnp.int32), segments)
        lowered = jax.jit(jax.grad(loss, (0, 1))).lower(layer, x, segment_ids)
    text = lowered.compile().as_text() or ""
    # Further rounds are loops that mostly take no turn.
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    work = read_work(text, sizes, Fraction(0))
    assert "tpu_custom_call" in text and "ragged-dot" not in text
    assignments = 2 * 16 * 512 / 8
    products = 3 * 3 * 2 * assignments * 256 * 512
    # Kernels are said to work on all rows that there is room for: slots for half more than even
    # shares, and blocks that groups do not fill, 3,584 rows for 2,048.
    assert products < work.flops < 1.01 * 3584 / 2048 * products
    found = {(one.kind, one.axes): one for one in work.collectives}
    assert ("ragged-all-to-all", ("expert",)) in found
    assert ("all-gather", ("expert",)) not in found


def test_slices_lie_along_the_data_axis_and_sum_gradients():
    topology = parse_topology("2xv5e:2x2")
    with pytest.raises(ShardingError, match=r"mesh\.data=1 must be a multiple of the 2 slices"):
        make_mesh(MeshConfig(data=1, fsdp=8), topology.devices())
    mesh = make_mesh(MeshConfig(data=2, fsdp=4), topology.devices())
    model = tiny_dense(num_layers=2, embed_dim=128, mlp_dim=256, vocab_size=256)
    program = build_program(model, TrainConfig(steps=1, length=128, batch_size=8), mesh)
    batch = abstract_batch(token_batch_spec(8, 128), mesh, Rules())
    compiled = compile_train_step(program, batch)
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    assert compiled.text is not None
    work = read_work(compiled.text, sizes)
    far = {one.axes: one for one in work.collectives if one.between_slices}
    # Each device's quarter of the gradients, in 2 or 4 bytes.
    share = model.count().total / 4
    assert 2 * share <= sum(one.bytes for one in far.values()) <= 4.2 * share
    assert set(far) == {("data",)}
    times = roofline(work, topology, list(mesh.devices.flat))
    assert times is not None and times.network > 0


def test_moments_on_the_host_leave_the_memory_of_a_chip():
    """They come back for the update, when activations are gone."""
    model = tiny_dense(
        num_layers=2, embed_dim=512, num_heads=4, num_kv_heads=4, head_dim=128, mlp_dim=2048,
        compute_dtype="bfloat16",
    )  # fmt: skip
    mesh = make_mesh(MeshConfig(), parse_topology("v5e:1x1").devices())
    batch = abstract_batch(token_batch_spec(16, 512), mesh, Rules())
    on_chip, on_host = (
        compile_train_step(
            build_program(model, TrainConfig(1, 16, length=512), mesh, execution), batch
        )
        for execution in (ExecutionConfig(), ExecutionConfig(offload_optimizer=True))
    )
    moments = 8 * model.count().total
    assert on_chip.temporaries > 2 * moments
    assert on_chip.arguments - on_host.arguments == pytest.approx(moments, rel=0.01)
    assert (on_chip.needed or 0) - (on_host.needed or 0) > moments / 2


def test_a_program_that_does_not_fit_says_what_it_needs():
    topology = parse_topology("v5e:1x1")
    model = tiny_dense(num_layers=1, embed_dim=256, num_heads=4, num_kv_heads=4)
    mesh = make_mesh(MeshConfig(), topology.devices())
    train, execution = TrainConfig(1, 128, length=4096), ExecutionConfig(attention="dense")
    program = build_program(model, train, mesh, execution)
    batch = abstract_batch(token_batch_spec(128, 4096), mesh, Rules())
    compiled = compile_train_step(program, batch)
    assert compiled.text is None
    assert max(compiled.needed or 0, compiled.temporaries) > 15.75 * 2**30
    assert "attend" in compiled.largest[0].operation
