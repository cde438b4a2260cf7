"""AdamW under a parametrisation: the standard steps at the base, the papers' factors elsewhere."""

import dataclasses
from typing import Any

import jax
import numpy as np
import optax
import pytest
from support.helpers import build, one_device_mesh, random_batch, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.models.parameters import named_parameters
from jaxgen.models.parametrization import Parametrization
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.matrices import elementwise, is_decayed
from jaxgen.training.optimizers.muon import Muon
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import initial_state
from jaxgen.training.step import make_train_step

BASE = tiny_moe()


@pytest.mark.slow
def test_training_at_the_base_is_the_standard_training():
    base = Parametrization("completep", BASE.embed_dim, BASE.num_layers)
    ends = []
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        for config in (BASE, tiny_moe(parametrization=base)):
            optimizer = build_optimizer(AdamW(), lambda count: 0.01 / (1 + count), config)
            state = jax.jit(lambda c=config, o=optimizer: initial_state(c, o, Layout(), 0))()
            step = make_train_step(NextToken(), optimizer)
            for seed in range(3):
                state, _ = step(state, put_batch(random_batch(seed), mesh, Rules()))
            ends.append(state.model)
    for one, other in zip(*(jax.tree.leaves(model) for model in ends), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-8, 0.3])
def test_rate_decay_and_epsilon_of_every_parameter(epsilon):
    """Against Adam's equations in numpy; the large epsilon shows its multiplier."""
    grown = Parametrization("completep", base_embed_dim=16, base_num_layers=1)
    config = tiny_moe(parametrization=grown)
    settings = AdamW(epsilon=epsilon, weight_decay=0.1)
    model: Any = build(config)
    optimizer = build_optimizer(settings, lambda count: 0.02, config)
    random = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(model)
    drawn = [random.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    gradients: Any = jax.tree.unflatten(tree, drawn)
    state = optimizer.init(model)
    updates: Any
    updates, state = optimizer.update(gradients, state, model)
    updates, state = optimizer.update(gradients, state, optax.apply_updates(model, updates))
    kinds = set()
    found = zip(*(named_parameters(x) for x in (model, gradients, updates)), strict=True)
    for (name, parameter), (_, gradient), (_, update) in found:
        of = grown.multipliers(parameter.logical_axes, config.embed_dim, config.num_layers)
        kinds.add((of, is_decayed(parameter)))
        g, x = np.asarray(gradient[...], np.float64), np.asarray(parameter[...], np.float64)
        decay = 0.1 * of.weight_decay * is_decayed(parameter)
        rate, size = 0.02 * of.learning_rate, epsilon * of.epsilon
        # With one gradient twice, both corrected moments are its own.
        adam = g / (np.abs(g) + size)
        x = x - rate * (adam + decay * x)
        np.testing.assert_allclose(
            np.asarray(update[...]), -rate * (adam + decay * x), atol=1e-6, err_msg=name
        )
    assert len(kinds) >= 5


def test_other_optimizers_have_no_rule():
    config = tiny_moe(parametrization=Parametrization("mup", 16))
    with pytest.raises(ConfigError, match="Muon has no method build_per_parameter"):
        build_optimizer(Muon(), lambda count: 0.1, config)


@dataclasses.dataclass(frozen=True)
class SGD:
    """An optimizer of somebody else's that can follow a parametrization."""

    def build(self, schedule):
        return optax.sgd(schedule)

    def build_per_parameter(self, schedule, multipliers):
        scaled = elementwise(lambda parameter, g, _: g * multipliers(parameter).learning_rate)
        return optax.chain(scaled, optax.sgd(schedule))


def test_any_optimizer_with_the_method_follows_a_parametrization():
    grown = Parametrization("mup", 8)
    config = tiny_moe(parametrization=grown)
    model: Any = build(config)
    optimizer = build_optimizer(SGD(), lambda count: 0.5, config)
    gradients: Any = jax.tree.map(np.ones_like, model)
    updates: Any
    updates, _ = optimizer.update(gradients, optimizer.init(model), model)
    rates = set()
    for (name, parameter), (_, update) in zip(
        *map(named_parameters, (model, updates)), strict=True
    ):
        axes = parameter.logical_axes
        rate = grown.multipliers(axes, config.embed_dim, config.num_layers).learning_rate
        np.testing.assert_array_equal(update[...], -0.5 * np.float32(rate), err_msg=name)
        rates.add(rate)
    assert len(rates) == 2
