"""Advantages, whitening, clipped losses and estimates of the KL beside those of tunix."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tunix")

from flax import nnx
from tunix.rl import algo_core, common

from jaxgen.group_batch import GroupBatch
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.ops.advantages import (
    generalised_advantages,
    group_relative,
    kl_estimates,
    leave_one_out,
    whitened,
)
from jaxgen.posttraining.advantages import GeneralisedAdvantage

GROUPS, GROUP, LENGTH = 3, 4, 9
FLAT = (GROUPS * GROUP, LENGTH)


def arrays() -> dict[str, Any]:
    """What a policy said before and says now, in completions of several lengths."""
    random = np.random.default_rng(0)
    shape = (GROUPS, GROUP, LENGTH)
    lengths = random.integers(2, LENGTH + 1, shape[:2])
    now = random.normal(-2, 0.5, shape)
    values = random.normal(size=shape)
    found = {
        "now": now,
        "before": now + random.normal(0, 0.3, shape),
        "reference": now + random.normal(0, 0.3, shape),
        "advantages": random.normal(size=shape),
        "values": values,
        "valued": values + random.normal(0, 0.4, shape),
        "returns": random.normal(size=shape),
        "rewards": random.normal(size=shape),
        "mask": np.arange(LENGTH) < lengths[..., None],
    }
    return {
        name: one if one.dtype == bool else one.astype(np.float32) for name, one in found.items()
    }


def flat(array: Any) -> Any:
    return jnp.asarray(array).reshape(FLAT)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0)])
def test_generalised_advantages_and_their_whitening(gamma, lam):
    given = arrays()
    advantages, returns = generalised_advantages(
        given["rewards"], given["values"], given["mask"], gamma, lam
    )
    theirs, their_returns = algo_core.compute_gae_advantages(
        flat(given["rewards"]), flat(given["values"]), flat(given["mask"]), gamma, lam
    )
    mask = given["mask"].reshape(FLAT)
    for ours, other in ((whitened(advantages, given["mask"]), theirs), (returns, their_returns)):
        np.testing.assert_allclose(ours.reshape(FLAT)[mask], np.asarray(other)[mask], atol=2e-5)
    # And as rollouts make them: a reward at the last token, what a nat costs at each.
    scores, penalties = given["rewards"][..., 0], np.abs(given["returns"])
    last = given["mask"] & (np.cumsum(given["mask"][..., ::-1], -1)[..., ::-1] == 1)
    whole, _ = GeneralisedAdvantage(gamma, lam)(scores, given["mask"], penalties, given["values"])
    rewards = last * scores[..., None] - penalties
    theirs, _ = algo_core.compute_gae_advantages(
        flat(rewards), flat(given["values"]), flat(given["mask"]), gamma, lam
    )
    np.testing.assert_allclose(whole.reshape(FLAT)[mask], np.asarray(theirs)[mask], atol=2e-5)


def test_whitening():
    given = arrays()
    ours = whitened(given["rewards"], given["mask"])
    theirs = algo_core.masked_whiten(jnp.asarray(given["rewards"]), jnp.asarray(given["mask"]))
    np.testing.assert_allclose(ours[given["mask"]], np.asarray(theirs)[given["mask"]], atol=1e-5)


def test_advantages_of_groups():
    rewards, there = arrays()["rewards"][..., 0], np.ones((GROUPS, GROUP), bool)
    flat_rewards = rewards.reshape(-1)
    found = leave_one_out(rewards, there).reshape(-1)
    np.testing.assert_allclose(
        found, algo_core.compute_rloo_advantages(jnp.asarray(flat_rewards), GROUP), atol=1e-6
    )
    found = group_relative(rewards, there, None).reshape(-1)
    np.testing.assert_allclose(
        found, algo_core.compute_drgrpo_advantages(flat_rewards, GROUP), atol=1e-6
    )
    # What is added to the deviation is 1e-4 here and 1e-6 there.
    found = group_relative(rewards, there).reshape(-1)
    np.testing.assert_allclose(
        found, algo_core.compute_advantages(flat_rewards, GROUP), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(("ours", "theirs"), [("k1", "kl"), ("k2", "mse_kl"), ("k3", "low_var_kl")])
def test_estimates_of_the_divergence(ours: Any, theirs):
    given = arrays()

    def our_sum(now):
        return jnp.sum(kl_estimates(now - given["reference"], ours, jnp.exp))

    def their_sum(now):
        return jnp.sum(common.compute_kl_divergence(now, given["reference"], theirs))

    for one, other in zip(*(jax.value_and_grad(f)(given["now"]) for f in (our_sum, their_sum)),
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def group_batch(given: dict[str, Any]) -> GroupBatch:
    nothing = np.zeros((GROUPS, GROUP, LENGTH), np.int32)
    return GroupBatch(
        tokens=nothing,
        targets=nothing,
        completion_weights=given["mask"].astype(np.float32),
        lengths=given["mask"].sum(-1).astype(np.int32),
        scores=np.zeros((GROUPS, GROUP), np.float32),
        **{name: given[name] for name in ("advantages", "values", "returns", "reference")},
        log_probabilities=given["before"],
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip_high": 0.28},
        {"dual_clip": 1.5},
        {"entropy_weight": 0.1},
        {"kl_weight": 0.05, "kl_estimator": "k1"},
    ],
)
def test_ppos_clipped_loss(settings, monkeypatch):
    given, objective = arrays(), PolicyGradient(**settings)
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(*FLAT, 5)).astype(np.float32))
    entropy = algo_core.compute_entropy_from_logits(logits).reshape(GROUPS, GROUP, LENGTH)
    example = SimpleNamespace(
        prompt_ids=None, completion_ids=jnp.zeros(FLAT, jnp.int32),
        completion_mask=flat(given["mask"]).astype(jnp.float32),
        advantages=flat(given["advantages"]), old_per_token_logps=flat(given["before"]),
        ref_per_token_logps=flat(given["reference"]),
    )  # fmt: skip
    config = SimpleNamespace(
        epsilon_low=objective.clip_low, epsilon_high=objective.clip_high,
        epsilon_c=objective.dual_clip, entropy_coef=objective.entropy_weight,
        kl_coef=objective.kl_weight,
    )  # fmt: skip

    def theirs(now):
        said = (flat(now), logits)
        monkeypatch.setattr(common, "compute_per_token_logps", lambda *_, **__: said)
        return algo_core.ppo_policy_loss_fn(nnx.Module(), example, config, 0, 1)[0]

    def ours(now):
        loss = objective.of_figures(group_batch(given), now, entropy)
        return loss.total / loss.weight

    for one, other in zip(*(jax.value_and_grad(f)(jnp.asarray(given["now"]))
                            for f in (ours, theirs)), strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_clipped_loss_of_values(monkeypatch):
    given = arrays()
    given["advantages"] = np.zeros_like(given["advantages"])
    example = SimpleNamespace(
        prompt_ids=None, completion_ids=jnp.zeros(FLAT, jnp.int32),
        completion_mask=flat(given["mask"]).astype(jnp.float32),
        old_values=flat(given["values"]), returns=flat(given["returns"]),
    )  # fmt: skip

    def theirs(valued):
        # What it calls values are those of the places before the tokens, of one more place.
        padded = jnp.pad(flat(valued), ((0, 0), (0, 1)))
        monkeypatch.setattr(common, "compute_score", lambda *_, **__: padded)
        return algo_core.ppo_value_loss_fn(nnx.Module(), example, 0.2, 0, 1)[0]

    def ours(valued):
        objective = PolicyGradient(value_weight=1.0, value_clip=0.2)
        loss = objective.of_figures(group_batch(given), given["now"], given["now"], valued)
        return loss.total / loss.weight

    for one, other in zip(*(jax.value_and_grad(f)(jnp.asarray(given["valued"]))
                            for f in (ours, theirs)), strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
