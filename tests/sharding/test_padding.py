"""A vocabulary that the tensor axis does not divide is padded where it computes, and only there."""

import collections
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.helpers import build, one_device_mesh, random_batch, tiny_dense, tiny_gpt2

from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, sample
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.next_token import NextToken
from jaxgen.runs.checkpoints import Checkpoints, flatten
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.step import make_train_step

SIZE = 61
CONFIGS = {
    "tied": tiny_dense(vocab_size=SIZE, num_kv_heads=8),
    "untied": tiny_gpt2(
        vocab_size=SIZE, num_kv_heads=8, tie_embeddings=False, logit_soft_cap=3.0,
        biases=("logits",),
    ),
}  # fmt: skip
OBJECTIVE = NextToken(z_loss=1e-2, label_smoothing=0.1)
MESHES = {
    "tensor2": MeshConfig(data=2, fsdp=2, tensor=2),
    "tensor4": MeshConfig(data=1, fsdp=2, tensor=4),
    "tensor8": MeshConfig(data=1, tensor=8),
}
TABLES = ("embedding.table", "unembedding")


def program_on(mesh, name):
    train = TrainConfig(steps=5, length=32)
    return build_program(CONFIGS[name], train, mesh, objective=OBJECTIVE)


def batch_on(mesh, step):
    return put_batch(random_batch(step, vocab_size=SIZE), mesh, Rules())


def trained(mesh, name, state=None, steps=range(5)):
    """The losses of some steps, and the state after them."""
    program, losses = program_on(mesh, name), []
    with jax.set_mesh(mesh):
        step = make_train_step(program.objective, program.optimizer, clip_norm=1.0)
        state = program.fresh_state() if state is None else state
        for number in steps:
            state, metrics = step(state, batch_on(mesh, number))
            losses.append(float(metrics.objective))
    return losses, state


@functools.cache
def on_one_device(name):
    return trained(one_device_mesh(), name)[0]


CASES = [(name, mesh) for name in CONFIGS for mesh in MESHES]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mesh"), CASES)
def test_losses_are_those_of_one_device(name, mesh):
    losses, _ = trained(make_mesh(MESHES[mesh]), name)
    np.testing.assert_allclose(losses, on_one_device(name), rtol=1e-5)


def test_tables_are_split_as_if_the_mesh_divided_them():
    mesh = make_mesh(MESHES["tensor4"])
    with jax.set_mesh(mesh):
        state = program_on(mesh, "untied").fresh_state()
    found = {n: a for n, a in flatten(state).items() if n.endswith((*TABLES, "logit_bias"))}
    assert len(found) == 9  # Each parameter and two moments.
    for name, array in found.items():
        parts = 1 if name.endswith("bias") else 8
        assert array.shape[0] == SIZE, name
        assert array.addressable_shards[0].data.size * parts == array.size, name


@pytest.mark.slow
def test_a_checkpoint_moves_to_any_mesh_bit_for_bit(tmp_path):
    """Parameters and moments after two steps, and the losses of the next."""
    first = make_mesh(MESHES["tensor4"])
    losses, state = trained(first, "untied", steps=range(2))
    saved = {name: np.asarray(array) for name, array in flatten(state).items()}
    with jax.set_mesh(first), Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(2, state, {"step": 2})
    for mesh in (make_mesh(MeshConfig(data=1, fsdp=8)), one_device_mesh()):
        with jax.set_mesh(mesh), Checkpoints(tmp_path / "c") as checkpoints:
            abstract = program_on(mesh, "untied").abstract_state()
            restored, _ = checkpoints.restore(abstract, None)
        for name, array in flatten(restored).items():
            np.testing.assert_array_equal(np.asarray(array), saved[name], err_msg=name)
    again, _ = trained(first, "untied", state, range(2, 3))
    there, _ = trained(mesh, "untied", restored, range(2, 3))
    np.testing.assert_allclose(there, again, rtol=1e-5)
    assert again[0] < losses[0]


@pytest.mark.slow
def test_no_token_beyond_the_vocabulary_is_drawn():
    """At a temperature at which all tokens are alike, and as one device draws them."""
    tokens, lengths = pad_prompts([np.arange(1 + n, dtype=np.int32) for n in range(8)], pad_id=0)
    flat, drawn = SamplingPolicy(temperature=1e4), []
    for mesh in (make_mesh(MESHES["tensor8"]), one_device_mesh()):
        with jax.set_mesh(mesh):
            model = build(CONFIGS["tied"])
            key = jax.random.key(0)
            samples = sample(
                model, tokens, lengths, key, policy=flat, max_tokens=40, stop_ids=(SIZE,)
            )
            drawn.append(np.asarray(samples.tokens))
            assert model.logits(jnp.ones((8, 3, 32))).shape == (8, 3, SIZE)
    assert drawn[0].max() == SIZE - 1 and len(np.unique(drawn[0])) > 50
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_an_export_and_the_counts_know_of_no_padding(tmp_path):
    with jax.set_mesh(make_mesh(MESHES["tensor8"])):
        model = build(CONFIGS["tied"])
        export_model(model, tmp_path / "out")
        again = dict(named_parameters(load_model(open_checkpoint(tmp_path / "out"), Layout())))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == SIZE
    table = load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"]
    assert table.shape == (SIZE, 32)
    parameters = {name: np.asarray(parameter[...]) for name, parameter in named_parameters(model)}
    np.testing.assert_array_equal(table, parameters["embedding.table"])
    for name, array in parameters.items():
        np.testing.assert_array_equal(array, np.asarray(again[name][...]), err_msg=name)
    assert sum(array.size for array in parameters.values()) == CONFIGS["tied"].count().total


def collectives(text, kind):
    """Shapes of the results of a kind of collective, and how often."""
    found = re.findall(rf"= (.+?) {kind}(?:-start)?\(", text)
    return collections.Counter(one for result in found for one in re.findall(r"\[[\d,]*\]", result))


@pytest.mark.slow
def test_columns_are_exchanged_for_rows_and_no_table_is_gathered():
    """Each device holds 16 of 64 padded rows; a table [61, 32] or [64, 32] is whole on none."""
    mesh = make_mesh(MESHES["tensor4"])
    program = program_on(mesh, "tied")
    with jax.set_mesh(mesh):
        step = make_train_step(program.objective, program.optimizer, clip_norm=1.0)
        text = step.lower(program.fresh_state(), batch_on(mesh, 0)).compile().as_text()
    assert not {"[61,32]", "[64,32]"} & set(re.findall(r"\[[\d,]*\]", text))
    # Whole over fsdp it has a quarter of the columns; then a quarter of the rows.
    assert collectives(text, "all-gather")["[61,8]"] >= 1
    assert collectives(text, "all-to-all")
    # Logits of a chunk: 4 rows of 32 positions, and a quarter of the padded vocabulary.
    shapes = set(re.findall(r"f32(\[[\d,]*\])", text))
    assert "[4,32,16]" in shapes and not {"[4,32,64]", "[4,32,61]"} & shapes
