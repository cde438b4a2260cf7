"""Parameters that a pattern leaves out: nothing of training reaches them."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import one_device_mesh, random_batch, tiny_dense, tiny_moe
from support.tiny_sweep import base

from jaxgen.configuration import difference, fingerprint, load, to_gin
from jaxgen.errors import ConfigError
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.parameters import Frozen, named_parameters
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.muon import Muon
from jaxgen.training.program import build_program

PATTERNS = ("embedding*", "stack.*norm*", "*router_bias")


def programmed(model, **settings):
    train = TrainConfig(steps=2, batch_size=8, length=32, **settings)
    return build_program(model, train, one_device_mesh())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [AdamW(decay_vectors=True), Muon()])
def test_nothing_of_training_reaches_what_is_frozen(optimizer):
    """No moments, no decay, no balancing; bit for bit what it was, and all the rest has moved."""
    moe = MoEConfig(num_experts=8, mlp_dim=32, every=2, bias_balancing=True)
    sparse = tiny_moe(num_layers=2, moe=moe)
    program = programmed(sparse, freeze=PATTERNS, optimizer=optimizer, ema_decay=0.9)
    state = program.fresh_state()
    before = {n: (type(p), np.asarray(p[...])) for n, p in named_parameters(state.model)}
    frozen = {n for n, (kind, _) in before.items() if kind is Frozen}
    assert frozen == {n for n in before if "embedding" in n or "norm" in n or "router_bias" in n}
    kept = sum(x.size for x in jax.tree.leaves(state.ema))
    assert kept == sum(value.size for n, (_, value) in before.items() if n not in frozen)
    moments = sum(x.size for x in jax.tree.leaves(state.optimizer_state))
    assert moments <= 2 * kept + 10
    with jax.set_mesh(program.mesh):
        step = program.train_step()
        for seed in range(2):
            batch = put_batch(random_batch(seed), program.mesh, program.layout.rules)
            state, _ = step(state, batch)
    for name, parameter in named_parameters(state.model):
        kind, value = before[name]
        assert type(parameter) is kind
        assert np.array_equal(parameter[...], value) == (name in frozen), name


@pytest.mark.slow
def test_a_frozen_run_is_another_run_and_keeps_its_parameters(tmp_path):
    config = base("train.freeze=('embedding*',)", "train.steps=2")
    bare = base("train.steps=2")
    assert fingerprint(config) != fingerprint(bare)
    assert any("train.freeze" in line for line in difference(bare, config))
    (tmp_path / "config.gin").write_text(to_gin(config))
    assert load([str(tmp_path / "config.gin")]) == config
    devices = jax.devices()[:1]
    run(config, tmp_path / "run", devices=devices, show_progress=False)
    on = dataclasses.replace(config, initialize_from="../run", name="on")
    run(on, tmp_path / "on", devices=devices, show_progress=False)
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        tables = []
        for name in ("run", "on"):
            model = restore(tmp_path / name, mesh).model
            assert isinstance(model.embedding.table, Frozen)
            tables.append(np.asarray(model.embedding.table[...]))
        fresh = build_program(config.model, config.train, mesh).fresh_state().model
    np.testing.assert_array_equal(tables[0], fresh.embedding.table[...])
    np.testing.assert_array_equal(tables[1], tables[0])


def test_adapters_may_be_frozen_in_part():
    program = programmed(LoraConfig(tiny_dense(), 2), freeze=("*.a",))
    named = dict(named_parameters(program.fresh_state().model))
    assert all(isinstance(p, Frozen) != name.endswith(".b") for name, p in named.items())


def test_a_pattern_that_matches_nothing_teaches():
    said = r"train.freeze has 'embeding\*', which matches no parameter.* such as embedding.table"
    with pytest.raises(ConfigError, match=said):
        programmed(tiny_dense(), freeze=("embeding*",))
    with pytest.raises(ConfigError, match="leaves no parameter to train"):
        programmed(tiny_dense(), freeze=("*",))
