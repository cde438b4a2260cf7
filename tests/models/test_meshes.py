"""The same numbers on every mesh: losses, per-task sums and gradients."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from support.helpers import (
    ALL_BIASES,
    MESHES,
    build,
    one_device_mesh,
    random_batch,
    tiny_dense,
    tiny_gpt2,
    tiny_moe,
)
from support.tiers import slow_but

from jaxgen.errors import ShardingError
from jaxgen.models.block_config import LatentConfig, LayerConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.biases import Alibi, RelativeBias
from jaxgen.ops.attention.masks import BlockCausal, Causal, Chunked, Window
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.pipeline import PipelineConfig
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

OBJECTIVE = NextToken(z_loss=1e-3, label_smoothing=0.1)
CONFIGS = {
    "dense": tiny_gpt2(
        biases=(*ALL_BIASES, "logits"), gated=True, logit_soft_cap=20.0,
    ),
    "untied": tiny_dense(tie_embeddings=False, gated=False),
    "moe": tiny_moe(),
}  # fmt: skip
LAYOUTS = {
    "untied": Layout(remat="full"),
    "moe": Layout(remat="dots"),
    "vocabulary_over_stages": Layout(
        Rules(batch=("data", "fsdp", "expert"), vocab=("tensor", "stage"))
    ),
    "in_rounds": Layout(remat="full", pipeline=PipelineConfig(4, rounds=2)),
    "ring": Layout(attention="ring", remat="full"),
    "ring_latent": Layout(attention="ring"),
    "expert_choice": Layout(expert_exchange="all_to_all"),
    "weighed_input": Layout(remat="full", expert_exchange="all_to_all"),
}

# Axes that no family's tiny member has; these run on the meshes that split most.
AXES = {
    "expert_choice": tiny_moe(
        moe=MoEConfig(8, 2, mlp_dim=32, router="expert_choice", capacity_factor=1.0), num_layers=2
    ),
    "dropout": tiny_gpt2(dropout=0.1, attention_dropout=0.1, feed_forward_dropout=0.1),
    "prefix": tiny_dense(layers=(LayerConfig((BlockCausal(),)),)),
    "either": tiny_dense(layers=(LayerConfig((Causal(), Chunked(4) | Window(3))),)),
    "narrow_table": tiny_dense(
        table_dim=16, layers=(LayerConfig(rope=None, qk_norm="heads"),), position_bias=Alibi(0.5)
    ),
    "weighed_input": tiny_moe(
        moe=MoEConfig(
            8,
            2,
            mlp_dim=32,
            weigh="input",
            capacity_factor=0.5,
            shared_mlp_dim=32,
            second_threshold=0.5,
            sequence_balance_weight=0.1,
        ),
        num_layers=2,
    ),
}


STAGED = {
    "in_rounds": tiny_dense(num_layers=8),
    "vocabulary_over_stages": tiny_dense(vocab_size=67),
    "with_bias": tiny_dense(
        layers=(LayerConfig(rope=None),), position_bias=RelativeBias(8, 20, per_layer=False)
    ),
}
RINGS = {
    "ring": tiny_dense(
        layers=(LayerConfig((Causal(),)), LayerConfig((Causal(), Window(3)))),
        attention_soft_cap=20.0,
        attention_sinks=True,
    ),
    "ring_latent": tiny_dense(latent=LatentConfig(16, 8, 4, 8), num_kv_heads=8),
}


def loss_and_gradients(name, mesh):
    config = (CONFIGS | AXES | STAGED | RINGS)[name]
    with jax.set_mesh(mesh):
        model = build(config, LAYOUTS.get(name))
        batch = random_batch()
        # The first tokens of a segment see one another where the model lets blocks do so.
        batch = dataclasses.replace(batch, block_ids=np.maximum(batch.positions, 5))
        batch = put_batch(batch, mesh, model.layout.rules)
        key = jax.random.key(3) if config.differs_in_training else None

        def objective(model):
            loss = OBJECTIVE(model, batch, key)
            return loss.total / loss.weight, loss.metrics

        differentiate = jax.jit(jax.value_and_grad(objective, has_aux=True))
        (loss, metrics), gradients = differentiate(model)
    named = {name: np.asarray(p[...]) for name, p in named_parameters(gradients)}
    sums = {name: (one.total, one.weight) for name, one in metrics.items()}
    return float(loss), jax.tree.map(np.asarray, sums), named


@functools.cache
def on_one_device(name):
    return loss_and_gradients(name, one_device_mesh())


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        *slow_but(
            [("moe", "mixed")],
            itertools.product(CONFIGS, MESHES),
        ),
        *slow_but([], itertools.product(AXES, ["mixed"])),
        *slow_but([("in_rounds", "stage")], itertools.product(STAGED, ["stage"])),
        *slow_but(
            [("ring", "sequence")],
            itertools.product(["dropout", "prefix", "either", *RINGS], ["sequence"]),
        ),
    ],
)
def test_loss_and_gradients_do_not_depend_on_the_mesh(name, mesh):
    loss, sums, gradients = loss_and_gradients(name, make_mesh(MESHES[mesh]))
    expected_loss, expected_sums, expected_gradients = on_one_device(name)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for name, expected in expected_sums.items():
        for got, value in zip(sums[name], expected, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-5)
    for parameter, gradient in gradients.items():
        # A key's bias shifts all scores of a query alike: its gradient is rounding alone.
        np.testing.assert_allclose(
            gradient, expected_gradients[parameter], rtol=1e-3, atol=1e-6, err_msg=parameter
        )


@pytest.mark.parametrize("name", ["expert_choice", "weighed_input"])
def test_a_capacity_of_rows_is_refused_where_rows_are_split(name):
    with pytest.raises(ShardingError, match=r"capacity_factor=.*set mesh.sequence=1"):
        loss_and_gradients(name, make_mesh(MESHES["sequence"]))
