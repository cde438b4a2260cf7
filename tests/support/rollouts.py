"""Tiny runs that learn from rewards, and rewards with known best policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgen.configuration import load
from jaxgen.runs.config import RunConfig

BINDINGS = [
    "model.num_layers=1", "model.embed_dim=16", "model.num_heads=2", "model.mlp_dim=32",
    "model.vocab_size=320", "train.steps=4", "train.batch_size=4", "train.length=32",
    "run.mixture=@rollouts()", "run.objective=@policy_gradient()",
    "rollouts.tasks=[@addition/task()]", "rollouts.reward=@answer_match()",
    "answer_match.measure='edit_similarity'", "rollouts.max_tokens=6", "rollouts.group=2",
]  # fmt: skip
"""Of a run of about a second."""
ANCHORED = ["run.model=@policy()", "policy.model=@model()", "policy.reference=True"]


def rewarded(*bindings: str) -> RunConfig:
    """Returns a run that learns additions by their answers."""
    return load(["base.gin", "tasks/addition.gin"], [*BINDINGS, *bindings])


def with_rollouts(config: RunConfig, **changes: Any) -> RunConfig:
    """Returns a run with other settings of its rollouts."""
    mixture: Any = config.mixture
    return dataclasses.replace(config, mixture=dataclasses.replace(mixture, **changes))


def opened(config: RunConfig) -> Any:
    """Returns the opened rollouts of a run."""
    mixture: Any = config.mixture
    train = config.train
    return mixture.open(batch_size=train.batch_size, length=train.length, seed=train.seed)


@dataclasses.dataclass(frozen=True)
class TextReward:
    """A function of the completion's text."""

    function: Callable[[str], float]
    name: str = "text_reward"

    def __call__(self, records: Sequence[Any], completions: Sequence[str]) -> list[float]:
        """Returns the scores."""
        return [self.function(one) for one in completions]


@dataclasses.dataclass(frozen=True)
class State:
    """The part of a training state that rollouts are sampled from."""

    model: Any


def one_device() -> list[Any]:
    """Returns the devices of a run on one."""
    return jax.devices()[:1]
