"""Rollouts: what is sampled is what is trained on, in groups, and after any accident."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from support.accidents import StopAfter
from support.helpers import build, one_device_mesh
from support.outcomes import newest_digests, rows_without_times
from support.rollouts import (
    ANCHORED,
    BINDINGS,
    State,
    TextReward,
    one_device,
    opened,
    rewarded,
    with_rollouts,
)

from jaxgen.codecs.joint import stop_ids
from jaxgen.configuration import load
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.base import EvaluationContext
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.base import language_model
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.posttraining.rewarded import RewardedCompletions
from jaxgen.posttraining.rewards import RewardError
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import read_metrics
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch


@pytest.fixture(scope="module")
def state():
    with jax.set_mesh(one_device_mesh()):
        return State(build(language_model(rewarded().model)))


def sampled(config, state, step=0, mesh=None):
    with jax.set_mesh(mesh or one_device_mesh()):
        return opened(config).batch(step, state)


def test_a_row_is_a_prompt_with_its_completions(state):
    """Of each group one prompt; the completion's text is what the reward was given."""
    heard = []
    reward = TextReward(lambda text: heard.append(text) or float(len(text)))
    config = with_rollouts(rewarded(), reward=reward, group=3)
    batch, codec = sampled(config, state), config.mixture.codec
    assert batch.shape == (4, 3, 32) and batch.task_names == ("addition",)
    texts = iter(heard)
    for prompt in range(4):
        begins = {int(np.argmax(row > 0)) + 1 for row in batch.completion_weights[prompt]}
        (begin,) = begins
        assert len({tuple(row[:begin]) for row in batch.tokens[prompt]}) == 1
        question = codec.decode(batch.tokens[prompt, 0, 1:begin])
        assert question.endswith("=") and "+" in question
        for one in range(3):
            length = batch.lengths[prompt, one]
            ids = batch.tokens[prompt, one, begin:length]
            ids = ids[:-1] if ids[-1] in stop_ids(codec) else ids
            text = next(texts)
            assert codec.decode(ids) == text and batch.scores[prompt, one] == len(text)
            np.testing.assert_array_equal(
                batch.targets[prompt, one, begin - 1 : length - 1],
                batch.tokens[prompt, one, begin:length],
            )


def test_a_share_of_the_batches_is_the_students_and_the_rest_the_records_answers(state):
    """GKD's lambda: of four batches at 1/2 the second and fourth are sampled."""
    config = rewarded("rollouts.student_share=0.5")
    codec, plain = config.mixture.codec, opened(rewarded())
    found = opened(config)
    with jax.set_mesh(one_device_mesh()):
        batches = [found.batch(step, state) for step in range(4)]
        expected = plain.batch(3, state)
    np.testing.assert_array_equal(batches[3].tokens, expected.tokens)
    np.testing.assert_array_equal(batches[3].completion_weights, expected.completion_weights)
    assert batches[3].advantages is None and np.isfinite(batches[1].scores).all()
    spec = config.mixture.batch_spec(batch_size=4, length=32)
    for batch in batches:
        assert spec.advantages is None and batch.tokens.shape == spec.tokens.shape
    for batch in (batches[0], batches[2]):
        assert np.isnan(batch.scores).all()
        for tokens, weights, length in zip(
            *(np.reshape(x, (8, *x.shape[2:])) for x in (
                batch.tokens, batch.completion_weights, batch.lengths)), strict=True,
        ):  # fmt: skip
            begin = int(np.argmax(weights > 0)) + 1
            one, other = codec.decode(tokens[1:begin]).removesuffix("=").split("+")
            assert int(codec.decode(tokens[begin : length - 1])) == int(one) + int(other)
            assert tokens[length - 1] in stop_ids(codec)
            assert weights.sum() == length - begin
    with pytest.raises(ConfigError, match=r"rollouts\.student_share = 1"):
        PolicyGradient()(state.model, batches[0])
    with pytest.raises(ConfigError, match="leave out kl_penalty"):
        rewarded("rollouts.student_share=0.5", "rollouts.kl_penalty=0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    [SamplingPolicy(), SamplingPolicy(top_k=20), SamplingPolicy(temperature=0.7, top_p=0.8)],
)
def test_the_sampler_and_a_training_pass_agree(policy, state):
    """In float32, tokens kept by a filter renormalised; the ratio of a first update is 1."""
    batch = sampled(with_rollouts(rewarded(), policy=policy), state)
    with jax.set_mesh(one_device_mesh()):
        placed = put_batch(batch, one_device_mesh(), state.model.layout.rules)
        metrics = jax.jit(PolicyGradient())(state.model, placed).metrics
    gap = metrics["sampler_gap"]
    assert gap.total / gap.weight < 1e-6
    assert metrics["ratio"].total == metrics["ratio"].weight > 0
    whole = rewarded()
    loose = sampled(with_rollouts(whole, policy=SamplingPolicy()), state)
    if policy.top_p is not None:
        # Of more likely tokens more is drawn, which is seen in what they are given.
        assert batch.sampled.sum() > loose.sampled.sum()


def test_a_rollout_lasts_for_as_many_updates_as_it_may_age(state):
    """Two batches twice: each prompt once a pass, in another order, older with each update."""
    config = with_rollouts(rewarded(), max_age=3, passes=2)
    with jax.set_mesh(one_device_mesh()):
        data = opened(config)
        batches = [data.batch(step, state) for step in range(5)]
    rows = [{row.tobytes() for row in np.asarray(one.tokens)} for one in batches]
    assert rows[0] | rows[1] == rows[2] | rows[3] and len(rows[0] | rows[1]) == 8
    assert rows[0] != rows[2] and not rows[4] & rows[0]
    assert [int(one.ages[0]) for one in batches] == [0, 1, 2, 3, 0]
    assert batches[0].log_probabilities is not None


def test_groups_without_signal_are_sampled_again(state):
    """Rewards by the prompt's first digit: those of even ones are all equal."""

    @dataclasses.dataclass(frozen=True)
    class Odd:
        name: str = "odd"

        def __call__(self, records, completions):
            return [
                float(len(text)) + i % 2 if int(record["prompt"][0]) % 2 else 0.0
                for i, (record, text) in enumerate(zip(records, completions, strict=True))
            ]

    def with_signal(resampling):
        batch = sampled(
            with_rollouts(rewarded(), reward=Odd(), group=4, resampling=resampling), state
        )
        return int((batch.scores.max(axis=1) > batch.scores.min(axis=1)).sum())

    assert with_signal(0) < 4 and with_signal(6) == 4


def test_what_has_no_score_is_not_learned_from(state):
    reward = TextReward(lambda text: float("nan") if len(text) % 2 else float(len(text)))
    batch = sampled(with_rollouts(rewarded(), reward=reward, group=4), state)
    unscored = np.isnan(batch.scores)
    assert unscored.any() and not unscored.all()
    assert not batch.completion_weights[unscored].any()
    assert not batch.advantages[unscored].any() and np.isfinite(batch.advantages).all()
    cut = with_rollouts(rewarded(), cut_score=-10.0)
    ends = np.isin(
        np.take_along_axis(batch.tokens, batch.lengths[..., None] - 1, -1)[..., 0],
        stop_ids(cut.mixture.codec),
    )
    punished = sampled(with_rollouts(cut, reward=TextReward(len), group=4), state)
    np.testing.assert_array_equal(punished.scores == -10, ~ends)
    ignored = sampled(with_rollouts(rewarded(), reward=TextReward(len), ignore_cut=True), state)
    assert np.isnan(ignored.scores).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bindings", "stops"),
    [
        # After the third step a checkpoint of the second is gone back to, inside of a rollout.
        ((*ANCHORED, "rollouts.max_age=2", "policy_gradient.kl_weight=0.1"), (3,)),
        ((), (2, 3)),
        (
            ("run.model=@policy()", "policy.model=@model()", "policy.head=True",
             "rollouts.advantage=@generalised_advantage()", "policy_gradient.value_weight=0.1",
             "rollouts.max_age=3", "rollouts.passes=2"),
            (1, 4, 5),
        ),
    ],
)  # fmt: skip
def test_a_run_that_is_killed_comes_to_the_same_bits(bindings, stops, tmp_path):
    config = rewarded("train.steps=6", "warmup_cosine.warmup=0", *bindings)

    def outcome(path, stops=()):
        execution = ExecutionConfig(MeshConfig(data=1), log_every=1, checkpoint_every=2)
        for stop in stops:
            with pytest.raises(RuntimeError, match="an accident"):
                run(config, path, execution, one_device(), False, more_trackers=[StopAfter(stop)])
        told = run(config, path, execution, one_device(), False)
        rows = read_metrics(told.directory.metrics_file)
        return rows_without_times(path), newest_digests(path), rows

    killed, whole = outcome(tmp_path / "a", stops), outcome(tmp_path / "b")
    assert killed[:2] == whole[:2]
    assert all("rollout_seconds" in row for row in whole[2])


@pytest.mark.slow
def test_a_mesh_samples_and_rewards_as_one_device_does():
    config = with_rollouts(rewarded(), group=4, reward=TextReward(len))
    found = []
    for mesh in (one_device_mesh(), make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        with jax.set_mesh(mesh):
            model = build(language_model(config.model))
            found.append(opened(config).batch(0, State(model)))
    for name in ("tokens", "scores", "advantages"):
        np.testing.assert_allclose(getattr(found[0], name), getattr(found[1], name), atol=1e-6)


@pytest.mark.parametrize(
    ("bindings", "error", "words"),
    [
        (["rollouts.max_tokens=30"], DataError, r"a prompt of 7 tokens .* take 2 at most"),
        (["rollouts.max_tokens=32"], DataError, "leaves no room for a prompt"),
        (["rollouts.max_age=2", "rollouts.passes=2"], ConfigError, "does not divide"),
        (["sampling.temperature=0", "rollouts.policy=@sampling()"], ConfigError, "above 0"),
        (["rollouts.weights={'other': 1.0}"], ConfigError, "give each task one weight"),
    ],
)
def test_what_cannot_be_is_refused(bindings, error, words):
    with pytest.raises(error, match=words):
        opened(rewarded(*bindings))


def test_what_fails_is_named(state):
    def fails(text):
        raise KeyError("no such field")

    with pytest.raises(RewardError, match=r"text_reward.*raised KeyError"):
        sampled(with_rollouts(rewarded(), reward=TextReward(fails)), state)
    with pytest.raises(ConfigError, match=r"policy\.reference = True"):
        sampled(rewarded("rollouts.kl_penalty=0.1"), state)
    with pytest.raises(ConfigError, match="sampled from the state of a run"):
        opened(rewarded()).batch(0)


TEXT = ["train.length=64", "mixture.name='text'", "mixture.tasks=[@prose/task()]"]


@pytest.mark.slow
def test_text_keeps_its_loss_beside_completions(tmp_path):
    """PPO-ptx: the total is the sum of what each objective says by itself."""
    whole = load(
        ["base.gin", "tasks/addition.gin", "tasks/prose.gin"],
        [*BINDINGS, *TEXT, "run.mixture=@rollouts_and_text()", "run.objective=@with_text_loss()",
         "rollouts_and_text.rollouts=@rollouts()", "rollouts_and_text.text=@mixture()",
         "with_text_loss.policy_gradient=@policy_gradient()", "with_text_loss.weight=0.5"],
    )  # fmt: skip
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        model = build(language_model(whole.model))
        batch = opened(whole).batch(0, State(model))
        assert batch.text.shape == (4, 64) and batch.groups.shape == (4, 2, 64)
        placed = put_batch(batch, mesh, model.layout.rules)
        objective: Any = whole.objective
        both = jax.jit(objective)(model, placed)
        groups = jax.jit(objective.policy_gradient)(model, placed.groups)
        text = jax.jit(objective.text)(model, placed.text)
    expected = groups.total + 0.5 * groups.weight * text.total / text.weight
    np.testing.assert_allclose(both.total, expected, rtol=1e-5)
    assert both.weight == groups.weight and "text_loss" in both.metrics
    told = run(whole, tmp_path / "run", ExecutionConfig(log_every=1), one_device(), False)
    assert all("text_loss" in row for row in read_metrics(told.directory.metrics_file))


@pytest.mark.slow
def test_what_a_policy_writes_is_scored_prompt_by_prompt(state):
    """The same prompts for every model; rows for the report's comparisons."""
    config = rewarded()
    mixture: Any = config.mixture
    evaluator = RewardedCompletions(
        mixture.tasks, TextReward(lambda text: float(len(text)) or float("nan")),
        num_prompts=6, max_tokens=6, name="written",
    )  # fmt: skip
    context = EvaluationContext(config.mixture, config.objective, 0, 4, 32)
    with jax.set_mesh(one_device_mesh()):
        evaluator.check(context)
        rows = evaluator(state.model, context)
    assert [row["instance"] for row in rows] == [str(i) for i in range(6)]
    for row in rows:
        assert row.get("reward") == (float(len(row["said"])) or None)
        assert row["rewarded_task"] == "addition" and row["cut"] in (0, 1)
