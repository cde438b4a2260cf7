"""Adapters against the formulas of their papers, the gradients of whole matrices, and meshes."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from support.helpers import (
    build,
    one_device_mesh,
    one_row,
    random_batch,
    tiny_dense,
    tiny_gpt2,
    tiny_moe,
)
from support.tiers import slow_but

from jaxgen.errors import ConfigError
from jaxgen.models.adapter_dropout import dropping
from jaxgen.models.adapters import AdaptedParameter, split_axes
from jaxgen.models.block_config import LatentConfig
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.parameters import Frozen, multiply, named_parameters, number_of_parameters
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.state import state_with, trained, with_trained
from jaxgen.training.step import make_train_step

EVERY = ("*attention.*", "*feed_forward.*", "embedding.table")
LATENT = tiny_dense(
    latent=LatentConfig(query_rank=8, kv_rank=8, nope_dim=4, rope_dim=4, value_dim=4),
    num_kv_heads=None, head_dim=None,
)  # fmt: skip
CONFIGS: dict[str, Any] = {
    "dense": LoraConfig(tiny_dense(), 2, 6.0, EVERY),
    "biases": LoraConfig(tiny_gpt2(), 3),
    "experts": LoraConfig(tiny_moe(), 2),
    "latent": LoraConfig(LATENT, 2),
    "dora": LoraConfig(tiny_dense(), 2, 6.0, EVERY, dora=True),
    "dora_experts": LoraConfig(tiny_moe(), 2, dora=True),
}


def built(config, layout=None) -> Any:
    return jax.jit(lambda: config.build(nnx.Rngs(params=0), layout or Layout()))()


def moved(model, seed=3):
    """The model with its adapters, and nothing else, moved from where they begin."""
    leaves, tree = jax.tree.flatten(trained(model))
    random = np.random.default_rng(seed)
    leaves = [x + 0.2 * random.standard_normal(x.shape, np.float32) for x in leaves]
    return with_trained(model, jax.tree.unflatten(tree, leaves))


def logits(model, batch):
    return np.asarray(jax.jit(lambda model: model.logits(model(batch).hidden))(model))


def adapted_nodes(model) -> list[Any]:
    leaves = jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, AdaptedParameter))
    return [x for x in leaves if isinstance(x, AdaptedParameter)]


@pytest.mark.parametrize("name", slow_but(["dora"], list(CONFIGS)))
def test_a_fresh_model_is_the_bare_one_and_a_moved_one_is_what_it_merges_to(name):
    config = CONFIGS[name]
    batch = random_batch()
    model, bare = built(config), build(config.model)
    expected = logits(bare, batch)
    np.testing.assert_allclose(logits(model.language_model, batch), expected, atol=2e-5)
    np.testing.assert_array_equal(logits(model.without_adapters(), batch), expected)
    model = moved(model)
    found = logits(model.language_model, batch)
    assert np.abs(found - expected).max() > 0.05
    np.testing.assert_allclose(logits(model.merged(), batch), found, atol=2e-5)
    np.testing.assert_array_equal(logits(model.without_adapters(), batch), expected)
    assert {n: p.shape for n, p in named_parameters(model.merged())} == {
        n: p.shape for n, p in named_parameters(bare)
    }


@pytest.mark.slow
@pytest.mark.parametrize("dora", [False, True])
def test_a_matrix_is_merged_as_the_papers_say(dora):
    """W + alpha / r B A, and of DoRA its columns scaled to the trained norms, by numpy."""
    model = moved(built(LoraConfig(tiny_moe(), 2, 6.0, dora=dora)))
    nodes = adapted_nodes(model)
    assert {len(one.base.shape) for one in nodes} == {3, 4}
    for one in nodes:
        stacked, inputs, _ = split_axes(one.logical_axes)
        shape = one.base.shape
        lead, n_in = shape[:stacked], math.prod(shape[stacked : stacked + inputs])
        w = np.asarray(one.base[...], np.float64).reshape(*lead, n_in, -1)
        a = np.asarray(one.a[...], np.float64).reshape(*lead, n_in, 2)
        b = np.asarray(one.b[...], np.float64).reshape(*lead, 2, -1)
        expected = w + 6.0 / 2 * a @ b
        if dora:
            magnitude = np.asarray(one.magnitude[...], np.float64).reshape(*lead, 1, -1)
            expected *= magnitude / np.linalg.norm(expected, axis=-2, keepdims=True)
        np.testing.assert_allclose(one[...], expected.reshape(shape), rtol=2e-4, atol=1e-5)


def test_gradients_are_products_of_the_whole_matrixs():
    """dA = s dW B^T and dB = s A^T dW, with dW by differentiating the merged model."""
    model, batch, objective = moved(built(CONFIGS["dense"])), random_batch(), NextToken()

    def loss(parameters, model):
        return objective(with_trained(model, parameters), batch, None).total

    found = jax.jit(jax.grad(loss))(trained(model), model)
    merged = model.merged()
    whole = dict(named_parameters(jax.jit(jax.grad(loss))(trained(merged), merged)))
    gradients = dict(named_parameters(found))
    checked = 0
    for name, parameter in named_parameters(model):
        if not name.endswith(".a"):
            continue
        name = name.removesuffix(".a")
        gradient = whole[name.removeprefix("model.")]
        stacked, inputs, _ = split_axes(gradient.logical_axes)
        lead = gradient.shape[:stacked]
        n_in = math.prod(gradient.shape[stacked : stacked + inputs])
        dw = np.asarray(gradient[...], np.float64).reshape(*lead, n_in, -1)
        a = np.asarray(parameter[...], np.float64).reshape(*lead, n_in, -1)
        b = dict(named_parameters(model))[f"{name}.b"]
        b = np.asarray(b[...], np.float64).reshape(*lead, 2, -1)
        da, db = 3 * dw @ np.swapaxes(b, -1, -2), 3 * np.swapaxes(a, -1, -2) @ dw
        for suffix, expected in (("a", da), ("b", db)):
            gradient = np.asarray(gradients[f"{name}.{suffix}"][...])
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                gradient.reshape(expected.shape), expected, atol=2e-4 * scale
            )
        checked += 1
    assert checked == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["experts", "dora"])
def test_a_step_changes_adapters_alone(name):
    config = CONFIGS[name]
    if name == "experts":
        moe = dataclasses.replace(config.model.moe, bias_balancing=True, load_balance_weight=0.0)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, moe=moe))
    optimizer = AdamW().build(optax.constant_schedule(1e-2))
    state = state_with(built(config), optimizer)
    before = {n: (type(p), np.asarray(p[...])) for n, p in named_parameters(state.model)}
    moments = {s for x in jax.tree.leaves(state.optimizer_state) for s in [x.shape]}
    step = make_train_step(NextToken(), optimizer)
    for seed in range(2):
        state, metrics = step(state, random_batch(seed))
    assert np.isfinite(float(metrics.objective))
    for name, parameter in named_parameters(state.model):
        kind, value = before[name]
        same = np.array_equal(value, parameter[...])
        assert same == (kind is Frozen), name
    trained_sizes = {p.shape for _, p in named_parameters(trained(state.model))}
    assert moments == trained_sizes | {()}


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_are_the_trees(name):
    config = CONFIGS[name]
    count = config.count()
    model = jax.eval_shape(lambda: config.build(nnx.Rngs(params=0), Layout()))
    assert count.total == number_of_parameters(model)
    adapters = sum(math.prod(p.shape) for _, p in named_parameters(trained(model)))
    assert count.total - config.model.count().total == adapters


def test_the_count_of_llamas_query_and_value_by_hand():
    """The paper's table 4: rank 4 of the queries and values, here of 32 layers of width 4096."""
    llama = tiny_dense(
        num_layers=32, embed_dim=4096, num_heads=32, num_kv_heads=32, head_dim=128,
        vocab_size=32000, mlp_dim=11008, tie_embeddings=False,
    )  # fmt: skip
    config = LoraConfig(llama, 8, targets=("*attention.query", "*attention.value"))
    assert config.count().total - llama.count().total == 32 * 2 * 8 * (4096 + 4096)


def test_flops_leave_out_the_gradients_of_what_is_frozen_alone():
    """2 operations for each weight that has no gradient, counted by hand."""
    base = tiny_dense(tie_embeddings=False)
    queries = 2 * 32 * 32
    matrices = 2 * (2 * 32 * (8 + 4) * 4 + 3 * 32 * 64) + 64 * 32
    config = LoraConfig(base, 2, targets=("*attention.query",))
    assert base.flops(32) - config.flops(32) == 2 * (matrices - queries)
    # Of experts those that a token meets.
    sparse = tiny_moe(num_layers=1, moe=MoEConfig(8, 2, mlp_dim=32), tie_embeddings=False)
    config = LoraConfig(sparse, 2, targets=("*feed_forward.up",))
    met = 2 * 32 * (8 + 4) * 4 + 32 * 8 + 2 * 3 * 32 * 32 + 64 * 32
    assert sparse.flops(32) - config.flops(32) == 2 * (met - 2 * 32 * 32)
    assert config.flops(32, None) == config.flops(32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "dora_experts"])
def test_a_split_model_takes_the_same_step(name):
    config, layout = CONFIGS[name], Layout(remat="full")
    optimizer = optax.sgd(0.1)  # Adam would make much of the last bits of gradients near 0.

    def after_two_steps(mesh):
        with jax.set_mesh(mesh):
            start = jax.jit(lambda: moved(config.build(nnx.Rngs(params=0), layout)))()
            state = state_with(start, optimizer)
            step = make_train_step(NextToken(), optimizer, clip_norm=1.0)
            for seed in range(2):
                on_mesh = put_batch(random_batch(seed), mesh, layout.rules)
                state, metrics = step(state, on_mesh)
            parameters = {n: p[...] for n, p in named_parameters(state.model)}
            specs = {n: jax.typeof(p).sharding.spec for n, p in parameters.items()}
            values = {n: np.asarray(p) for n, p in parameters.items()}
            return float(metrics.objective), values, specs

    expected, one, _ = after_two_steps(one_device_mesh())
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    found, split, specs = after_two_steps(mesh)
    assert found == pytest.approx(expected, rel=1e-5)
    for parameter, value in one.items():
        np.testing.assert_allclose(split[parameter], value, atol=2e-5, err_msg=parameter)
    block = "model.stack.groups.0.blocks.0.attention"
    assert specs[f"{block}.query.a"] == jax.P("stage", "fsdp", None)
    assert specs[f"{block}.query.b"] == jax.P("stage", None, "tensor", None)
    assert specs[f"{block}.out.a"] == jax.P("stage", "tensor", None, None)
    assert specs[f"{block}.out.b"] == jax.P("stage", None, "fsdp")


@pytest.mark.slow
@pytest.mark.parametrize("dora", [False, True])
def test_what_is_dropped_is_of_each_token_and_of_training_alone(dora):
    """Of a matrix by hand: y - x W is, for one token, a sum over what its draws have kept."""
    config = LoraConfig(tiny_dense(num_layers=1), 2, 6.0, dora=dora, dropout=0.5)
    one = moved(built(config)).language_model.stack.groups[0].blocks[0].feed_forward.up
    one = jax.tree.map(lambda leaf: leaf[0], one)
    x = np.random.default_rng(0).standard_normal((1, 400, 32)).astype(np.float32)
    x[:, 1:] = x[:, :1]  # The same token again and again: what differs is what is dropped.

    def product(key):
        with using(Layout()), dropping(key):
            return multiply("btd,df->btf", jnp.asarray(x), one, jax.P(None, None, None))

    whole = np.asarray(product(None))
    np.testing.assert_allclose(whole, x @ np.asarray(one[...]), atol=1e-5)
    found = np.asarray(product(jax.random.key(0)))[0]
    base = x[0, 0] @ np.asarray(one.base[...])
    change = np.asarray(one[...]) - np.asarray(one.base[...])
    terms = x[0, 0][:, None] * change
    # Each output is the frozen product and twice a subset of the terms, the same for all outputs.
    kept = np.linalg.lstsq(2 * terms.T, (found - base).T, rcond=None)[0]
    if dora:  # Of rank 32: what was kept can be read off.
        assert np.abs(kept * (1 - kept)).max() < 1e-2
        assert 0.45 < kept.mean() < 0.55 and len({tuple(one) for one in kept.round().T}) == 400
    spread = np.sqrt(np.square(terms).sum(0) / len(found))
    assert (np.abs(found.mean(0) - whole[0, 0]) < 5 * spread + 1e-4).all()
    assert np.abs(found - found[0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_dropout_is_by_the_step_and_the_same_on_a_mesh(remat):
    config, layout = LoraConfig(tiny_dense(), 2, 6.0, dropout=0.3), Layout(remat=remat)

    def loss_of(mesh, seed):
        with jax.set_mesh(mesh):
            model = jax.jit(lambda: moved(config.build(nnx.Rngs(params=0), layout)))()
            batch, key = put_batch(random_batch(), mesh, layout.rules), jax.random.key(seed)
            return float(jax.jit(lambda m: NextToken()(m, batch, key).total)(model))

    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    one = loss_of(one_device_mesh(), 0)
    assert loss_of(mesh, 0) == pytest.approx(one, rel=1e-5)
    assert loss_of(mesh, 1) != pytest.approx(one, rel=1e-4)


def test_dropout_is_of_what_blocks_multiply():
    with pytest.raises(ConfigError, match=r"embedding\.table, which is outside of the blocks"):
        LoraConfig(tiny_dense(), 2, targets=EVERY, dropout=0.1)
    with pytest.raises(ConfigError, match=r"which is of experts"):
        LoraConfig(tiny_moe(), 2, dropout=0.1)
    # Then the frozen matrix has no gradient, and the adapters are multiplied by themselves.
    base, queries = tiny_dense(tie_embeddings=False), 2 * 32 * 32
    targets = ("*attention.query",)
    merged, dropped = (LoraConfig(base, 2, targets=targets, dropout=rate) for rate in (0, 0.1))
    assert merged.flops(32) - dropped.flops(32) == 2 * queries - 2 * 6 * 2 * (32 + 32)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_no_merged_copy_and_no_whole_gradient_is_kept(remat):
    """A further layer costs the program far less memory than its matrices."""
    batch = one_row(16, 64, 2)

    def temporary(num_layers):
        base = tiny_dense(num_layers=num_layers, embed_dim=256, mlp_dim=1024)
        config = LoraConfig(base, 2)
        model = jax.eval_shape(lambda: config.build(nnx.Rngs(params=0), Layout(remat=remat)))

        def loss(parameters, model):
            return NextToken()(with_trained(model, parameters), batch, None).total

        compiled: Any = jax.jit(jax.grad(loss)).lower(trained(model), model).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    matrices = 4 * 3 * 256 * 1024
    assert (temporary(10) - temporary(2)) / 8 < 0.2 * matrices


@pytest.mark.slow
def test_a_parents_parameters_are_adopted():
    config: Any = CONFIGS["dora"]
    batch = random_batch()
    parent = build(config.model, seed=5)
    model = built(config).adopt(parent)
    np.testing.assert_allclose(
        logits(model.language_model, batch), logits(parent, batch), atol=2e-5
    )
    tuned = moved(built(CONFIGS["dense"]))
    model = built(config).adopt(tuned)
    found, expected = logits(model.language_model, batch), logits(tuned.language_model, batch)
    np.testing.assert_allclose(found, expected, atol=5e-5)
    with pytest.raises(ValueError, match=r"embedding.table of shape .128, 32. there"):
        built(config).adopt(build(tiny_dense(vocab_size=128)))


def test_what_matches_nothing_is_refused_and_axes_choose_too():
    with pytest.raises(ConfigError, match=r"lora.targets has '.querry', which matches no matrix"):
        LoraConfig(tiny_dense(), 2, targets=("*querry",)).count()
    with pytest.raises(ConfigError, match=r"query_bias', which matches no matrix"):
        LoraConfig(tiny_gpt2(), 2, targets=("*query_bias",)).count()
    block = "stack.groups.0.blocks.0.attention"
    chosen = LoraConfig(tiny_dense(), 2, targets=("embed heads*",)).adapted_names
    assert chosen == {f"{block}.query"}
    with pytest.raises(ConfigError, match="adapt the bare one"):
        LoraConfig(CONFIGS["dense"], 2)


@pytest.mark.slow
def test_generation_reads_the_cache_of_an_adapted_model():
    """Token by token as all at once."""
    from jaxgen.models.cache import empty_cache

    model = moved(built(CONFIGS["dense"])).language_model
    row = one_row(6)
    whole = logits(model, row)
    cache, found = empty_cache(model.config, 1, 6, model.layout), []
    for place in range(6):
        one = jax.tree.map(lambda x, at=place: x[:, at : at + 1], row)
        output = model(one, cache)
        cache = output.cache
        found.append(model.logits(output.hidden)[:, 0])
    np.testing.assert_allclose(jnp.stack(found, axis=1), whole, atol=3e-5)


def test_it_is_built_where_the_default_rules_would_not_divide_the_model():
    layout = Layout(Rules(heads=None, kv_heads=None))
    config = LoraConfig(tiny_dense(num_heads=1, num_kv_heads=1, head_dim=32), 3)
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    with jax.set_mesh(mesh):
        model = jax.eval_shape(lambda: config.build(nnx.Rngs(params=0), layout))
    assert number_of_parameters(model) == config.count().total
