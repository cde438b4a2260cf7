"""What the compiled step communicates, read from the compiled program."""

import math
import re

import jax
import pytest
from support.helpers import random_batch, tiny_dense

from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.step import make_train_step

MODEL = tiny_dense(num_kv_heads=8, mlp_dim=96, tie_embeddings=False, vocab_size=128)


def compiled_step(mesh_config):
    """The step's HLO text, and the shape of each parameter of one layer."""
    mesh = make_mesh(mesh_config)
    program = build_program(MODEL, TrainConfig(steps=1, length=32), mesh)
    with jax.set_mesh(mesh):
        step = make_train_step(program.objective, program.optimizer, clip_norm=1.0)
        batch = put_batch(random_batch(vocab_size=128), mesh, Rules())
        state = program.fresh_state()
        text = step.lower(state, batch).compile().as_text()
    shapes = {}
    for name, parameter in named_parameters(state.model):
        stacked = parameter.logical_axes[0] == "layers"
        shapes[name] = parameter.shape[1:] if stacked else parameter.shape
    return text, shapes


def sizes_of(text, kind):
    """Elements of the results of every collective of a kind, those of a tuple one by one."""
    sizes = []
    for line in text.splitlines():
        match = re.search(rf"= (.+?) {kind}(?:-start)?\(", line)
        if match:
            for dims in re.findall(r"[a-z]\w*\[([\d,]*)\]", match.group(1)):
                sizes.append(math.prod(int(n) for n in dims.split(",") if n))
    return sizes


@pytest.fixture(scope="module")
def fsdp():
    return compiled_step(MeshConfig(data=1, fsdp=8))


def test_fsdp_gathers_every_weight_where_it_computes(fsdp):
    text, shapes = fsdp
    gathered = sizes_of(text, "all-gather")
    for name, shape in shapes.items():
        assert math.prod(shape) in gathered, name
    matrices = [name for name in shapes if not name.endswith(("scale", "bias"))]
    # Once in the forward pass of a unit; the backward pass keeps or gathers it again.
    weights = [size for size in gathered if size >= min(math.prod(shapes[m]) for m in matrices)]
    assert len(matrices) <= len(weights) <= 2 * len(matrices)
    assert max(gathered) == max(math.prod(shape) for shape in shapes.values())


def test_fsdp_reduces_every_gradient_once(fsdp):
    text, shapes = fsdp
    reduced = sizes_of(text, "all-reduce") + [8 * n for n in sizes_of(text, "reduce-scatter")]
    for name, shape in shapes.items():
        assert math.prod(shape) in reduced, name
    total = sum(size for size in reduced if size >= 32)
    assert total <= 1.1 * sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.slow
def test_data_parallel_gathers_nothing_and_reduces_the_gradients():
    text, shapes = compiled_step(MeshConfig(data=8))
    assert sizes_of(text, "all-gather") == []
    reduced = sizes_of(text, "all-reduce")
    for name, shape in shapes.items():
        assert math.prod(shape) in reduced, name
    total = sum(size for size in reduced if size >= 32)
    assert total <= 1.1 * sum(math.prod(shape) for shape in shapes.values())


def test_tensor_parallel_gathers_no_weight():
    text, shapes = compiled_step(MeshConfig(data=2, tensor=4))
    gathered = sizes_of(text, "all-gather")
    parts = {math.prod(shape) for shape in shapes.values()}
    assert not [size for size in gathered if size in parts or 4 * size in parts]
    # Each block's two row-split products are summed over the tensor axis: batch 4 x length 32 x 32.
    assert sizes_of(text, "all-reduce").count(4 * 32 * 32) >= 2


@pytest.mark.slow
def test_a_deeper_model_is_not_a_longer_program():
    sizes = []
    for layers in (6, 48):
        config = TrainConfig(steps=1, length=32)
        mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
        program = build_program(tiny_dense(num_layers=layers), config, mesh)
        with jax.set_mesh(mesh):
            step = make_train_step(program.objective, program.optimizer)
            batch = put_batch(random_batch(), mesh, Rules())
            sizes.append(len(step.lower(program.fresh_state(), batch).as_text()))
    assert sizes[1] < 1.05 * sizes[0]
