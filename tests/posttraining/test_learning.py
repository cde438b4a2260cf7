"""Learning from rewards comes to policies that are known to be best."""

import dataclasses
import json

import pytest
from support.rollouts import one_device, rewarded, with_rollouts

from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.posttraining.advantages import GeneralisedAdvantage, GroupRelative, LeaveOneOut
from jaxgen.runs.run import run
from jaxgen.training.execution import ExecutionConfig

PPO = (
    "run.model=@policy()", "policy.model=@model()", "policy.head=True", "rollouts.max_age=3",
    "rollouts.passes=2",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bandit:
    """One token: an arm pays by its character; all others nothing."""

    name: str = "bandit"

    def __call__(self, records, completions):
        return [{"a": 0.3, "b": 1.0, "c": 0.6}.get(one[:1], 0.0) for one in completions]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Ten states: each step to the right ("r") pays 0.1, and the tenth in a row 1 more."""

    name: str = "chain"

    def __call__(self, records, completions):
        found = []
        for text in completions:
            right = len(text) - len(text.lstrip("r"))
            found.append(0.1 * min(right, 10) + (right >= 10))
        return found


def learned(config, tmp_path, steps):
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, steps=steps, batch_size=8)
    )
    told = run(config, tmp_path / "run", ExecutionConfig(log_every=10), one_device(), False)
    rows = [json.loads(line) for line in told.directory.metrics_file.read_text().splitlines()]
    return [row["reward"] for row in rows]


SETTINGS = ("warmup_cosine.peak=2e-2", "warmup_cosine.warmup=5", "warmup_cosine.final_fraction=0.1")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "grpo", "rloo"])
def test_a_bandit_is_played_at_its_best_arm(kind, tmp_path):
    """Three arms among 320 tokens that a fresh model draws alike; the best pays 1."""
    advantage = {"ppo": GeneralisedAdvantage(), "grpo": GroupRelative(), "rloo": LeaveOneOut()}
    objective = PolicyGradient(value_weight=0.1 if kind == "ppo" else 0.0, entropy_weight=0.001)
    config = rewarded(*SETTINGS, *(PPO if kind == "ppo" else ()))
    config = with_rollouts(
        config, reward=Bandit(), advantage=advantage[kind], max_tokens=1, group=32
    )
    config = dataclasses.replace(config, objective=objective)
    rewards = learned(config, tmp_path, 160)
    assert rewards[0] < 0.3 and rewards[-1] > 0.9


@pytest.mark.slow
def test_a_chain_is_walked_to_its_end(tmp_path):
    """PPO with values by token; the best return is 2."""
    config = with_rollouts(
        rewarded(*SETTINGS, *PPO), reward=Chain(), max_tokens=10, group=32,
        advantage=GeneralisedAdvantage(lam=0.95),
    )  # fmt: skip
    config = dataclasses.replace(config, objective=PolicyGradient(value_weight=0.1))
    rewards = learned(config, tmp_path, 240)
    assert rewards[0] < 0.2 and rewards[-1] > 1.8
