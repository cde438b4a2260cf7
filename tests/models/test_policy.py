"""A policy: its counts, its frozen reference, its head, and what it takes of a parent."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from support.groups import build_policy
from support.helpers import build, random_batch, tiny_dense
from support.tiny_sweep import base

from jaxgen.errors import ConfigError
from jaxgen.models.adopting import adopted
from jaxgen.models.base import abstract_model, language_model
from jaxgen.models.parameters import Frozen, named_parameters, number_of_parameters
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig, make_mesh

CRITIC = PolicyConfig(tiny_dense(), head=True)
VARIANTS = {
    "bare": PolicyConfig(tiny_dense()),
    "anchored": PolicyConfig(tiny_dense(), reference=True, head=True),
    "with a critic": PolicyConfig(tiny_dense(), reference=True, critic=CRITIC),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_equal_the_real_tree(name):
    config = VARIANTS[name]
    assert config.count().total == number_of_parameters(abstract_model(config))


def test_a_reference_begins_as_the_policy_and_is_frozen():
    policy: Any = build_policy(VARIANTS["anchored"])
    batch = random_batch()
    one, other = policy(batch).hidden, policy.reference_model(batch).hidden
    np.testing.assert_array_equal(one, other)
    reference = dict(named_parameters(policy.reference))
    assert reference and all(isinstance(p, Frozen) for p in reference.values())
    numbers = policy.scalars(policy(batch))
    weight = policy.head.weight[...]
    np.testing.assert_allclose(numbers, np.asarray(one) @ np.asarray(weight), atol=1e-5)


def test_what_is_not_there_is_asked_for():
    policy, batch = build_policy(VARIANTS["bare"]), random_batch()
    with pytest.raises(ConfigError, match=r"policy\.reference = True"):
        _ = policy.reference_model
    with pytest.raises(ConfigError, match=r"policy\.head = True"):
        policy.scalars(policy(batch))
    with pytest.raises(ConfigError, match=r"critic/policy\.head"):
        PolicyConfig(tiny_dense(), critic=VARIANTS["bare"])


@pytest.mark.slow
def test_it_takes_a_parents_parameters_and_so_does_its_reference():
    parent: Any = build(tiny_dense(), seed=7)
    policy: Any = build_policy(VARIANTS["anchored"])
    begun: Any = adopted(policy, parent)
    batch = random_batch()
    for model in (begun, begun.reference_model):
        np.testing.assert_array_equal(model(batch).hidden, parent(batch).hidden)
    np.testing.assert_array_equal(begun.head.weight[...], policy.head.weight[...])
    rewards: Any = build_policy(CRITIC, seed=3)
    critic = adopted(build_policy(VARIANTS["with a critic"]).critic, rewards)
    np.testing.assert_array_equal(critic.head.weight[...], rewards.head.weight[...])
    with pytest.raises(ValueError, match=r"embedding\.table of shape \(64, 16\) there"):
        adopted(policy, build(tiny_dense(embed_dim=16)))


@pytest.mark.slow
def test_a_run_begins_with_runs_for_the_whole_and_for_a_part(tmp_path):
    """The policy and its reference with one run, the critic with another of a head."""
    still = ("train.steps=1", "warmup_cosine.peak=1e-12")
    first = base("train.steps=1")
    inner = first.model
    critic = PolicyConfig(inner, head=True)
    whole = PolicyConfig(inner, reference=True, critic=critic)
    rewards = dataclasses.replace(
        base("train.steps=1", "train.seed=1"), model=critic, name="rewards"
    )
    tuned = dataclasses.replace(
        base(*still), model=whole, name="tuned",
        initialize_from="../first", initialize_parts={"critic": "../rewards"},
    )  # fmt: skip
    for config, name in ((first, "first"), (rewards, "rewards"), (tuned, "tuned")):
        record = run(config, tmp_path / name, devices=jax.devices()[:1], show_progress=False)
    assert record.record["initialized_from"]["fingerprint"] != ""
    assert record.record["initialized_parts"]["critic"]["name"] == "rewards"
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        policy, parent, judge = (
            restore(tmp_path / name, mesh).model for name in ("tuned", "first", "rewards")
        )

    def same(one, other):
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return all(np.allclose(a, b, atol=1e-6) for a, b in pairs)

    assert same(language_model(policy), parent) and same(policy.reference, parent)
    assert same(policy.critic, judge) and not same(language_model(policy), judge.model)
    wrong = dataclasses.replace(tuned, initialize_parts={"teacher": "../rewards"})
    with pytest.raises(ConfigError, match="has no part 'teacher'"):
        run(wrong, tmp_path / "wrong", devices=jax.devices()[:1], show_progress=False)


def test_it_is_built_by_its_configuration():
    model = VARIANTS["anchored"].build(nnx.Rngs(0), language_model(build(tiny_dense())).layout)
    assert isinstance(model.language_model, type(build(tiny_dense())))
