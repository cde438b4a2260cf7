"""Multi-token prediction against the equations of DeepSeek-V3, one token at a time."""

import dataclasses

import jax
import numpy as np
import pytest
from models.test_papers import attention, rms_norm, rotate, swish
from support.helpers import (
    MESHES,
    build,
    layer_parameters,
    one_device_mesh,
    one_row,
    random_batch,
    random_model,
    tiny_dense,
    tiny_model,
)
from support.tiers import slow_but

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.counting import count_parameters, training_flops_per_token
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.objectives.base import at_step
from jaxgen.objectives.multi_token import MultiToken
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.masks import BlockCausal
from jaxgen.planning.work import read_work
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program

KEY = jax.random.key(0)
TWO = tiny_dense(num_layers=1, mtp_depth=2, tie_embeddings=False)
ROWS, LENGTH = 2, 16
PACKED = random_batch(batch_size=ROWS, length=LENGTH)


@pytest.fixture(scope="module")
def model():
    return random_model(TWO)


@jax.jit
def metrics_of(model, batch):
    return MultiToken()(model, batch, KEY).metrics


def only_modules(model, batch):
    """The sums of the two further predictions."""
    metrics = metrics_of(model, batch)
    return [np.sum(metrics[f"mtp{k}_loss"].total) for k in (1, 2)]


@jax.jit
def hidden_of(model, batch):
    return model(batch).hidden


def test_modules_are_the_papers_equations(model):
    batch = one_row(LENGTH, batch_size=ROWS)
    found = [equations(model, batch, row) for row in range(ROWS)]
    np.testing.assert_allclose(only_modules(model, batch), np.sum(found, axis=0), rtol=1e-5)


def equations(model, batch, row):
    """The loss of each module on a row."""
    tokens, targets = (np.asarray(x)[row] for x in (batch.tokens, batch.targets))
    named = {name: np.asarray(p[...], np.float64) for name, p in named_parameters(model)}
    table = layer_parameters(model)["embedding"]["table"]
    hidden, losses = np.asarray(hidden_of(model, batch), np.float64)[row], []
    for depth in (1, 2):
        of = f"mtp.{depth - 1}."

        def norm(vector, name, of=of):
            return rms_norm(vector, {"scale": named[of + name + ".scale"]})

        # Eq. 21: the norms of both, joined and projected; eq. 22: a block over what has a token.
        count = LENGTH - depth
        x = [
            norm(hidden[i], "hidden_norm") @ named[of + "from_hidden"]
            + norm(table[tokens[i + depth]], "embedding_norm") @ named[of + "from_embedding"]
            for i in range(count)
        ]
        block = of + "stack.groups.0.blocks.0."
        p = {n.removeprefix(block): x[0] for n, x in named.items() if n.startswith(block)}
        own = {n.removeprefix("attention."): x for n, x in p.items() if n.startswith("attention.")}
        scales = ({"scale": p[n + "_norm.scale"]} for n in ("attention", "feed_forward"))
        before, between = scales
        normed = [rms_norm(v, before) for v in x]
        x = [v + attention(own, normed, i, range(i + 1), rotate) for i, v in enumerate(x)]
        gate, up, down = (p[f"feed_forward.{n}"] for n in ("gate", "up", "down"))
        normed = [rms_norm(v, between) for v in x]
        x = [v + (swish(h @ gate) * (h @ up)) @ down for v, h in zip(x, normed, strict=True)]
        hidden = np.array([norm(v, "stack.final_norm") for v in x])
        # Eq. 23: the model's own head.
        logits = hidden @ named["unembedding"].T
        nll = np.log(np.exp(logits).sum(axis=1)) - logits[range(count), targets[depth:]]
        losses.append(nll.sum())
    return losses


@pytest.mark.slow
def test_the_loss_is_the_papers_sum_and_its_weight_falls_later(model):
    batch = PACKED
    objective = MultiToken(weight=0.4, late_weight=0.1, late_from=5)
    plain = jax.jit(NextToken())(model, batch)
    further = sum(only_modules(model, batch))
    of_step = jax.jit(lambda step, model, batch: at_step(objective, step)(model, batch, KEY))
    for step, weight in ((0, 0.4), (4, 0.4), (5, 0.1)):
        loss = of_step(step, model, batch)
        np.testing.assert_allclose(loss.total, plain.total + weight / 2 * further, rtol=1e-6)
        assert loss.weight == plain.weight
    # Without a training pass there are no modules.
    used = jax.jit(objective)(model, batch)
    assert used.total == plain.total and set(used.metrics) == set(plain.metrics)


def test_nothing_is_predicted_from_one_document_into_another(model):
    batch = PACKED
    packed = only_modules(model, batch)
    whole = np.asarray(batch.segment_ids)
    alone = [
        dataclasses.replace(
            batch,
            segment_ids=np.where(whole == segment, 1, 0),
            loss_weights=(whole == segment).astype(np.float32),
        )
        for segment in (1, 2)
    ]
    np.testing.assert_allclose(
        packed, np.sum([only_modules(model, one) for one in alone], axis=0), rtol=1e-5
    )
    # What follows a document, and all that is not its own, moves nothing of it.
    other = np.where(whole == 1, batch.tokens, (np.asarray(batch.tokens) + 7) % 64)
    changed = dataclasses.replace(alone[0], tokens=other.astype(np.int32))
    np.testing.assert_array_equal(only_modules(model, changed), only_modules(model, alone[0]))
    weights = metrics_of(model, batch)
    sizes = np.array([np.sum(whole == segment) for segment in (1, 2)]) // 2
    for k in (1, 2):
        assert np.sum(weights[f"mtp{k}_loss"].weight) == 2 * (sizes - k).sum()


@pytest.mark.slow
def test_the_model_in_use_is_the_one_without_modules():
    with_modules, without = build(TWO), build(dataclasses.replace(TWO, mtp_depth=0))
    hidden = [hidden_of(one, PACKED) for one in (with_modules, without)]
    np.testing.assert_array_equal(*hidden)
    names = {name for name, _ in named_parameters(with_modules)}
    assert {name for name in names if not name.startswith("mtp.")} == {
        name for name, _ in named_parameters(without)
    }


def test_counts_are_those_of_the_tree_and_only_training_has_their_flops():
    tiny = dataclasses.replace(tiny_model("deepseek"), mtp_depth=1)
    for config in (TWO, tiny):
        count, plain = (
            count_parameters(dataclasses.replace(config, mtp_depth=d))
            for d in (config.mtp_depth, 0)
        )
        tree = abstract_model(config)
        assert count.total == number_of_parameters(tree)
        modules = sum(p.size for n, p in named_parameters(tree) if n.startswith("mtp."))
        assert count.multi_token == modules == count.total - plain.total
        assert count.active == plain.active


@pytest.mark.slow
def test_flops_are_those_of_the_compiled_program(monkeypatch):
    monkeypatch.setattr("jaxgen.ops.attention.dense.QUERY_CHUNKS", 1)
    model, batch = build(TWO), one_row(64, batch_size=4)

    def forward(model, batch):
        output = model(batch)
        ahead = model.predict_ahead(batch, output)
        return [model.logits(one.hidden) for one in (output, *(one for _, one in ahead))]

    program = jax.jit(forward).lower(model, batch).compile().as_text()
    assert program is not None
    expected = 4 * 64 * training_flops_per_token(TWO, 64) / 3
    assert abs(read_work(program, {}).flops / expected - 1) < 0.01


def test_models_that_look_ahead_are_refused():
    with pytest.raises(ConfigError, match=r"mtp_depth=1 needs a causal model"):
        tiny_dense(mtp_depth=1, layers=(LayerConfig((BlockCausal(),)),))
    with pytest.raises(ConfigError, match=r"set model\.mtp_depth"):
        MultiToken()(random_model(tiny_dense()), PACKED, KEY)


def test_the_files_make_a_run():
    files = [
        "base.gin", "mixtures/quickstart.gin", "models/deepseek/v3.gin",
        "optimizers/deepseek_v3.gin", "objectives/multi_token.gin",
    ]  # fmt: skip
    config = load(files)
    assert config.model.mtp_depth == 1
    # "0.3 for the first 10T tokens, and 0.1 for the remaining 4.8T tokens."
    assert config.objective.late_from == config.train.steps_for_tokens(10e12)


@pytest.mark.parametrize("mesh_name", slow_but((), ("mixed", "sequence")))
def test_training_is_the_same_on_a_mesh_and_balances_the_modules_routers(mesh_name):
    config = dataclasses.replace(tiny_model("deepseek"), num_layers=2, mtp_depth=1)
    if mesh_name == "sequence":
        config = TWO
    curves, models = {}, {}
    for name, mesh in (("one", one_device_mesh()), (mesh_name, make_mesh(MESHES[mesh_name]))):
        train = TrainConfig(steps=3, batch_size=8, length=32)
        program = build_program(config, train, mesh, objective=MultiToken(late_from=1))
        state, step = program.fresh_state(), program.train_step()
        begin = dict(named_parameters(jax.device_get(state.model)))
        curves[name] = []
        with jax.set_mesh(mesh):
            for seed in range(3):
                batch = random_batch(seed, vocab_size=config.vocab_size)
                state, metrics = step(state, put_batch(batch, mesh, program.execution.rules))
                curves[name].append(float(metrics.objective))
        models[name] = (begin, dict(named_parameters(jax.device_get(state.model))))
    np.testing.assert_allclose(curves["one"], curves[mesh_name], rtol=2e-4)
    begin, end = models[mesh_name]
    moved = {n for n in end if n.startswith("mtp.") and np.any(begin[n][...] != end[n][...])}
    assert moved == {n for n in end if n.startswith("mtp.")}
