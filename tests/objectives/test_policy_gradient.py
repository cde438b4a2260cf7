"""Policy gradients: known answers, what adds up, and what is clipped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.groups import build_policy, random_groups
from support.helpers import MESHES, build, one_device_mesh, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.loading import put_batch

VARIANTS = {
    "ppo": PolicyGradient(value_weight=0.5, value_clip=0.2),
    "grpo": PolicyGradient(aggregation="sequence", kl_weight=0.04),
    "dr_grpo": PolicyGradient(aggregation="constant", constant_length=12),
    "dapo": PolicyGradient(clip_high=0.28),
    "gspo": PolicyGradient(ratio="sequence", aggregation="sequence", clip_low=3e-2, clip_high=4e-2),
    "cispo": PolicyGradient(surrogate="cispo", clip_high=4.0),
    "reinforce": PolicyGradient(surrogate="reinforce", entropy_weight=0.01),
}


def sampled(seed=0, **changes):
    """Groups with all that a rollout has, near to what a policy says."""
    batch, random = random_groups(seed, batch_size=8, group=4), np.random.default_rng(seed)
    mask = batch.completion_weights

    def noise(scale):
        return (mask * random.normal(scale=scale, size=mask.shape)).astype(np.float32)

    base = {
        "log_probabilities": mask * -4.1 + noise(0.3),
        "reference": mask * -4.1 + noise(0.3),
        "advantages": mask * random.normal(size=(*mask.shape[:2], 1)).astype(np.float32),
        "returns": noise(1.0),
        "values": noise(1.0),
    }
    return dataclasses.replace(batch, **(base | changes))


def figures(batch, seed=1):
    """What a policy says of the batch's tokens: log-probabilities, entropies and values."""
    random = np.random.default_rng(seed)
    log_probability, entropy, values = random.normal(size=(3, *batch.shape)).astype(np.float32)
    return log_probability / 3 - 4.1, np.abs(entropy), values


def loss_of(objective, batch, found):
    log_probability, entropy, values = found
    values = values if objective.value_weight else None
    return objective.of_figures(batch, log_probability, entropy, values)


def anchored():
    return build_policy(PolicyConfig(tiny_dense(), reference=True, head=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_of_parts_add_up_to_that_of_the_whole(name):
    """Sums and weights stay apart, so accumulation 1 x 8 equals 8 x 1; a group is never parted."""
    objective, batch = VARIANTS[name], sampled()
    found = figures(batch)
    whole = loss_of(objective, batch, found)
    parts = [
        loss_of(objective, *jax.tree.map(lambda x, at=at: np.split(x, 8)[at], (batch, found)))
        for at in range(8)
    ]
    added = jax.tree.map(lambda *each: sum(each), *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), added, whole)


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_padding_is_in_no_figure(name):
    objective, batch = VARIANTS[name], sampled()
    found = figures(batch)
    noise = np.random.default_rng(5).normal(size=batch.shape).astype(np.float32)
    hidden = {
        field: np.where(batch.completion_weights > 0, getattr(batch, field), noise)
        for field in ("log_probabilities", "reference", "advantages")
    }
    changed = dataclasses.replace(batch, **hidden)
    hidden_figures = tuple(
        np.where(batch.completion_weights > 0, one, other)
        for one, other in zip(found, figures(batch, 9), strict=True)
    )
    one, other = loss_of(objective, batch, found), loss_of(objective, changed, hidden_figures)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


@pytest.mark.slow
def test_a_fresh_policy_has_the_gradient_of_reinforce():
    """With a ratio of 1 nothing is clipped, and PPO's gradient is that of -A log p."""
    model, batch = build(tiny_dense()), sampled(log_probabilities=None)
    gradients = [
        jax.jit(jax.grad(lambda m, o=objective: o(m, batch).total))(model)
        for objective in (PolicyGradient(), PolicyGradient(surrogate="reinforce"))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *gradients)
    metrics = jax.jit(PolicyGradient())(model, batch).metrics
    assert metrics["ratio"].total == metrics["ratio"].weight  # To the bit.
    assert metrics["clipped"].total == 0


def test_no_advantage_is_no_gradient():
    batch = sampled()
    batch = dataclasses.replace(batch, advantages=np.zeros_like(batch.advantages))
    now, entropy, _ = figures(batch)

    def loss(now):
        return PolicyGradient().of_figures(batch, now, entropy).total

    assert not jax.grad(loss)(jnp.asarray(now)).any()


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [(1, 1.1, True), (1, 1.5, False), (1, 0.5, True), (-1, 0.9, True), (-1, 0.5, False),
     (-1, 1.5, True), (-1, 9.0, False)],
)  # fmt: skip
def test_what_is_clipped_has_no_gradient(advantage, ratio, moves):
    """By the table of PPO's paper, and with a bound on ratios of bad tokens."""
    batch = sampled()
    mask = batch.completion_weights
    now = jnp.full(batch.shape, -2.0)
    batch = dataclasses.replace(
        batch,
        log_probabilities=np.full(batch.shape, -2.0 - np.log(ratio), np.float32),
        advantages=(advantage * mask).astype(np.float32),
    )
    objective = PolicyGradient(dual_clip=3.0)
    gradient = jax.grad(lambda x: objective.of_figures(batch, x, jnp.zeros_like(x)).total)(now)
    expected = -advantage * ratio * mask if moves else 0 * mask
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_a_sequence_has_one_ratio():
    """GSPO: the geometric mean over the tokens of each completion, written out."""
    batch, random = sampled(), np.random.default_rng(2)
    mask = batch.completion_weights
    now = (batch.log_probabilities + mask * random.normal(size=mask.shape)).astype(np.float32)
    objective = PolicyGradient(ratio="sequence", clip_low=9.0, clip_high=9.0)
    found = objective.of_figures(batch, now, np.zeros_like(now))
    total = 0.0
    for b, g in np.ndindex(*batch.shape[:2]):
        inside = mask[b, g] > 0
        ratio = np.exp((now - batch.log_probabilities)[b, g, inside].mean())
        total -= np.clip(ratio, -8, 10) * batch.advantages[b, g, inside].sum()
    np.testing.assert_allclose(found.total, total, rtol=1e-4)


def test_a_sampler_that_differs_is_corrected_for():
    """Tokens that it drew with a tenth more or less of probability, up to the cap."""
    batch = sampled(log_probabilities=None)
    now = np.full(batch.shape, -2.0, np.float32)
    batch = dataclasses.replace(batch, sampled=now - np.float32(np.log(1.1)))
    bare, weighed = (
        PolicyGradient(surrogate="reinforce", importance_cap=cap).of_figures(batch, now, 0 * now)
        for cap in (None, 2.0)
    )
    np.testing.assert_allclose(weighed.total, 1.1 * bare.total, rtol=1e-5)
    gap = bare.metrics["sampler_gap"]
    np.testing.assert_allclose(gap.total / gap.weight, np.log(1.1), rtol=1e-4)
    capped = PolicyGradient(surrogate="reinforce", importance_cap=1.05)
    np.testing.assert_allclose(
        capped.of_figures(batch, now, 0 * now).total, 1.05 * bare.total, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_a_mesh_has_the_loss_and_gradient_of_one_device(name):
    objective, batch = VARIANTS[name], sampled()

    def found(mesh):
        with jax.set_mesh(mesh):
            model = anchored()
            placed = put_batch(batch, mesh, model.layout.rules)
            loss, gradient = jax.jit(
                jax.value_and_grad(lambda m, b: objective(m, b).total, allow_int=True)
            )(model, placed)
            return float(loss), [np.asarray(x) for x in jax.tree.leaves(gradient)]

    (one, of_one), (other, of_other) = found(one_device_mesh()), found(make_mesh(MESHES["mixed"]))
    assert one == pytest.approx(other, rel=1e-4, abs=1e-3)
    for a, b in zip(of_one, of_other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_what_is_missing_is_named():
    model, batch = build(tiny_dense()), sampled()
    with pytest.raises(ConfigError, match=r"run's data be @rollouts"):
        PolicyGradient()(model, random_groups())
    with pytest.raises(ConfigError, match=r"policy\.reference = True"):
        PolicyGradient(kl_weight=0.1)(model, dataclasses.replace(batch, reference=None))
    with pytest.raises(ConfigError, match=r"@generalised_advantage"):
        PolicyGradient(value_weight=1.0)(model, dataclasses.replace(batch, returns=None))
    with pytest.raises(ConfigError, match="constant_length"):
        PolicyGradient(aggregation="constant")


def test_scores_that_are_missing_are_counted():
    batch = sampled()
    scores = np.ones_like(batch.scores)
    scores[0], scores[1, 0], scores[2, 1] = 0.5, np.nan, 3
    batch = dataclasses.replace(batch, scores=scores)
    metrics = loss_of(PolicyGradient(), batch, figures(batch)).metrics
    assert metrics["unscored"].total == 1 and metrics["unscored"].weight == 32
    assert metrics["groups_with_signal"].total == 1
    np.testing.assert_allclose(metrics["reward"].weight, [16, 15])
    np.testing.assert_allclose(metrics["reward"].total, [4 * 0.5 + 2 + 1 + 3 + 8, 15])
