"""Objectives on groups of completions: their sums, references, heads, meshes and microbatches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.groups import build_policy, random_groups
from support.helpers import build, one_device_mesh, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.log_probabilities import group_log_probabilities
from jaxgen.objectives.preference import KTO, Preference
from jaxgen.objectives.preference_losses import PAIR_METHODS, PairOptions, pair_losses
from jaxgen.objectives.reward import ProcessRewards, RewardModeling
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine
from jaxgen.training.state import trained, with_trained

BARE = PolicyConfig(tiny_dense())
ANCHORED = PolicyConfig(tiny_dense(), reference=True)
SCORING = PolicyConfig(tiny_dense(), head=True)
MESH = MeshConfig(data=2, fsdp=2, tensor=2)


def moved(policy: Any, scale: float = 0.3) -> Any:
    """A policy that is no longer where its reference is."""
    random = np.random.default_rng(5)

    def shift(leaf):
        return leaf + scale * random.normal(size=leaf.shape).astype(np.float32) / leaf.shape[-1]

    changed = jax.tree.map(lambda leaf: leaf, policy)
    changed.model = jax.tree.map(shift, policy.model)
    return changed


def pairs(**changes: Any) -> Any:
    return dataclasses.replace(random_groups(batch_size=8), **changes)


def labelled() -> Any:
    """Completions with another beside each, half of them good."""
    batch = pairs()
    return dataclasses.replace(batch, scores=np.tile([[1.0, 0.0], [0.0, 0.0]], (4, 1)))


def in_steps() -> Any:
    batch = random_groups(batch_size=8, group=1)
    scores = np.full(batch.shape, -1.0, np.float32)
    scores[:, 0, 5] = np.arange(8) % 2
    scores[:4, 0, 6] = 1.0
    return dataclasses.replace(batch, step_scores=scores)


def test_a_pair_has_the_loss_of_its_log_probabilities_and_of_the_references():
    policy, batch = (
        moved(build_policy(ANCHORED)),
        pairs(preference=np.linspace(0, 1, 8, dtype="f4")),
    )
    logs = np.asarray(group_log_probabilities(policy, batch)) * batch.completion_weights
    reference = np.asarray(group_log_probabilities(policy.reference_model, batch))
    h = (logs - reference * batch.completion_weights).sum(-1)
    loss = Preference("dpo", beta=0.2, label_smoothing=0.1)(policy, batch)
    labels = 0.9 * batch.preference + 0.1 * (1 - batch.preference)
    expected = pair_losses("dpo", h[:, 0], h[:, 1], PairOptions(0.2), labels)
    np.testing.assert_allclose(loss.total, expected.sum(), rtol=1e-5)
    assert loss.weight == 8
    by_task = loss.metrics["loss"]
    assert by_task.labels == ("first", "second")
    np.testing.assert_allclose(
        by_task.total, [expected[::2].sum(), expected[1::2].sum()], rtol=1e-5
    )
    is_first = batch.preference >= 0.5
    margin = np.where(is_first, 1, -1) * 0.2 * (h[:, 0] - h[:, 1])
    np.testing.assert_allclose(loss.metrics["margin"].total.sum(), margin.sum(), rtol=1e-4)
    assert loss.metrics["accuracy"].total.sum() == (margin > 0).sum()
    chosen = np.where(is_first, logs.sum(-1)[:, 0], logs.sum(-1)[:, 1])
    found = loss.metrics["chosen_log_probability"].total.sum()
    np.testing.assert_allclose(found, chosen.sum(), rtol=1e-5)


@pytest.mark.slow
def test_where_the_policy_is_its_reference_nothing_is_told_apart():
    policy, batch = build_policy(ANCHORED), pairs()
    loss = Preference("dpo")(policy, batch)
    np.testing.assert_allclose(loss.total / loss.weight, np.log(2), rtol=1e-6)
    assert (loss.metrics["accuracy"].total == 2.0).all()  # Ties count half.
    gradient = jax.grad(lambda policy: Preference("dpo")(policy, batch).total)(policy)
    moved_by = jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(gradient.model)])
    left = [jnp.abs(x).max() for x in jax.tree.leaves(gradient.reference)]
    assert jnp.abs(moved_by).max() > 1e-3 and max(left) == 0


@pytest.mark.slow
def test_the_reference_of_adapters_is_the_model_without_them():
    """No copy of it is made; adapters that begin at zero leave the policy where it is."""
    config = PolicyConfig(LoraConfig(tiny_dense(), rank=2), reference=True)
    policy, batch = build_policy(config), pairs()
    loss = Preference("dpo")(policy, batch)
    np.testing.assert_allclose(loss.total / loss.weight, np.log(2), rtol=1e-6)
    assert policy.reference is None

    def total(parameters):
        return Preference("dpo")(with_trained(policy, parameters), batch).total

    adapters = trained(policy)
    gradient = jax.grad(total)(adapters)
    further = jax.tree.map(lambda x, g: x - 0.05 * g, adapters, gradient)
    assert total(further) < loss.total
    left = with_trained(policy, further).reference_model
    same = group_log_probabilities(left, batch), group_log_probabilities(policy, batch)
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("kind", PAIR_METHODS)
def test_log_probabilities_in_the_data_are_as_good_as_a_reference(kind):
    anchored = moved(build_policy(ANCHORED))
    batch, objective = pairs(), Preference(kind)
    if not objective.has_reference:
        with pytest.raises(ConfigError, match=r"has no reference: set policy\.reference = False"):
            objective(anchored, batch)
        assert np.isfinite(objective(anchored.model, batch).total)
        return
    known = np.asarray(group_log_probabilities(anchored.reference_model, batch))
    with_them = dataclasses.replace(batch, reference=known)
    bare: Any = build_policy(BARE)
    bare.model = anchored.model
    found, expected = objective(bare, with_them), objective(anchored, batch)
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"policy\.reference = True"):
        objective(bare, batch)
    with pytest.raises(ConfigError, match=r"leave out comparisons\.reference"):
        objective(anchored, with_them)


def test_length_normalisation_and_imitation_are_of_completion_tokens():
    policy, batch = moved(build_policy(BARE)).model, pairs()
    tokens = batch.completion_weights.sum(-1)
    logs = (np.asarray(group_log_probabilities(policy, batch)) * batch.completion_weights).sum(-1)
    found = Preference("simpo", beta=2.5, margin=1.375)(policy, batch).total
    means = logs / tokens
    expected = np.log1p(np.exp(1.375 - 2.5 * (means[:, 0] - means[:, 1]))).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with_sft = Preference("simpo", beta=2.5, margin=1.375, imitation=0.5)(policy, batch).total
    np.testing.assert_allclose(with_sft - found, -0.5 * means[:, 0].sum(), rtol=1e-4)


@pytest.mark.slow
def test_kto_compares_with_completions_of_other_prompts():
    policy, batch = moved(build_policy(ANCHORED)), labelled()
    loss = KTO(undesirable_weight=1.3)(policy, batch)
    without = dataclasses.replace(
        batch, **{n: getattr(batch, n)[:, :1] for n in ("tokens", "targets", "completion_weights",
                                                        "lengths", "scores")}
    )  # fmt: skip
    alone = KTO(undesirable_weight=1.3, baseline=False)(policy, without)
    baseline = float(loss.metrics["baseline"].total.sum() / 8)
    assert baseline >= 0 and alone.metrics["baseline"].total.sum() == 0
    rewards = alone.metrics["good_reward"].total.sum(), alone.metrics["bad_reward"].total.sum()
    assert np.isfinite(rewards).all()
    assert KTO(baseline=False).adds_over_microbatches and not KTO().adds_over_microbatches
    with pytest.raises(ConfigError, match=r"comparisons\.others = True"):
        KTO()(policy, without)
    with pytest.raises(ConfigError, match=r"comparisons\.others = False"):
        KTO(baseline=False)(policy, batch)


def test_rewards_are_read_at_the_last_token():
    policy: Any = build_policy(SCORING)
    batch = pairs()
    rows = batch.rows()
    numbers = np.asarray(policy.scalars(policy(rows))).reshape(batch.shape)
    last = np.take_along_axis(numbers, batch.lengths[..., None] - 1, axis=-1)[..., 0]
    loss = RewardModeling()(policy, batch)
    better = np.where(batch.scores[:, 0] > batch.scores[:, 1], 1, -1)
    margin = better * (last[:, 0] - last[:, 1])
    np.testing.assert_allclose(loss.total, np.log1p(np.exp(-margin)).sum(), rtol=1e-5)
    np.testing.assert_allclose(loss.metrics["margin"].total.sum(), margin.sum(), rtol=1e-4)
    assert loss.metrics["reward"].weight.sum() == 16
    with pytest.raises(ConfigError, match=r"policy\.head = True"):
        RewardModeling()(build(tiny_dense()), batch)
    with pytest.raises(ConfigError, match="reads groups of 2"):
        RewardModeling()(policy, random_groups(group=1))


@pytest.mark.slow
def test_completions_that_are_not_there_change_nothing():
    """Whatever is in their places, for rows beside them too."""
    policy = build_policy(SCORING)
    batch = random_groups(batch_size=4, group=3)
    batch.lengths[:, 2] = 0
    batch = dataclasses.replace(
        batch, completion_weights=batch.completion_weights * (batch.lengths > 0)[..., None]
    )
    expected = RewardModeling()(policy, _first(batch, 2))
    batch.scores[:, 2] = np.nan
    found, gradient = jax.value_and_grad(lambda p: RewardModeling()(p, batch).total)(policy)
    np.testing.assert_allclose(found, expected.total, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def _first(batch: Any, count: int) -> Any:
    names = ("tokens", "targets", "completion_weights", "lengths", "scores")
    return dataclasses.replace(batch, **{name: getattr(batch, name)[:, :count] for name in names})


def test_steps_are_scored_where_they_end():
    policy: Any = build_policy(SCORING)
    batch = in_steps()
    numbers = np.asarray(policy.scalars(policy(batch.rows()))).reshape(batch.shape)[:, 0]
    loss = ProcessRewards()(policy, batch)
    signs = np.where(np.arange(8) % 2, 1, -1)
    expected = np.log1p(np.exp(-signs * numbers[:, 5])).sum()
    expected += np.log1p(np.exp(-numbers[:4, 6])).sum()
    assert loss.weight == 12
    np.testing.assert_allclose(loss.total, expected, rtol=1e-5)
    with pytest.raises(ConfigError, match="scored_steps"):
        ProcessRewards()(policy, random_groups())


CASES: dict[str, tuple[Any, PolicyConfig, Any]] = {
    "dpo": (Preference("dpo", beta=0.5, label_smoothing=0.1), ANCHORED, pairs),
    "orpo": (Preference("orpo"), BARE, pairs),
    "kto": (KTO(beta=0.5), ANCHORED, labelled),
    "reward": (RewardModeling(margin=0.3, centring=0.01), SCORING, pairs),
    "steps": (ProcessRewards(), SCORING, in_steps),
}


def two_steps(name: str, mesh: Any, accumulation: int) -> Any:
    """The sums and the norms of the gradients of two steps on a batch."""
    objective, config, make = CASES[name]
    train = TrainConfig(steps=2, batch_size=8, length=16, schedule=WarmupCosine(warmup="1 step"))
    meshes = {} if mesh is None else {"mesh": mesh}
    execution = ExecutionConfig(accumulation=accumulation, **meshes)
    placed = one_device_mesh() if mesh is None else make_mesh(mesh)
    program = build_program(config, train, placed, execution, objective)
    with jax.set_mesh(placed):
        state, found = program.fresh_state(), []
        batch = put_batch(make(), placed, execution.rules, accumulation)
        step = program.train_step(accumulation)
        for _ in range(2):
            state, metrics = step(state, batch)
            found.append((metrics.objective, metrics.sums, metrics.gradient_norm))
        return jax.tree.map(np.asarray, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_step_on_a_mesh_is_that_of_one_device(name):
    one, other = two_steps(name, None, 1), two_steps(name, MESH, 1)
    compare_steps(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpo", "reward"])
def test_microbatches_add_up(name):
    compare_steps(two_steps(name, None, 1), two_steps(name, None, 8))


def compare_steps(one: Any, other: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), one, other)


def test_a_baseline_over_a_batch_refuses_microbatches():
    train = TrainConfig(steps=1, batch_size=8, length=16)
    execution = ExecutionConfig(accumulation=2)
    with pytest.raises(ConfigError, match="the loss of KTO is not a sum"):
        build_program(ANCHORED, train, one_device_mesh(), execution, KTO())


def test_settings_that_do_nothing_are_refused():
    wrong: Any = "kto"
    with pytest.raises(ConfigError, match=r"@kto_loss\(\)"):
        Preference(wrong)
    with pytest.raises(ConfigError, match=r"margin=0\.5 is of the kinds"):
        Preference("ipo", margin=0.5)
    with pytest.raises(ConfigError, match="label_smoothing"):
        Preference(label_smoothing=0.5)
