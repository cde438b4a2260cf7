"""Ways to make advantages of rewards: any frozen dataclass with such a call is one."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import numpy as np

from jaxgen.domains import Domain, PositiveFraction, UnitFraction, check_domains
from jaxgen.ops.advantages import (
    Scale,
    generalised_advantages,
    group_relative,
    leave_one_out,
    token_rewards,
    whitened,
)


@runtime_checkable
class Advantage(Protocol):
    """Makes the advantages of the completions of one rollout, all of its groups together.

    Attributes:
      needs_values: whether `values` are asked of the policy's head or critic.
    """

    needs_values: ClassVar[bool]

    def __call__(
        self,
        scores: np.ndarray,
        mask: np.ndarray,
        penalties: np.ndarray,
        values: np.ndarray | None,
        /,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the advantage of each token, and what the values are to be.

        Args:
          scores: [prompts, group]; nan where a completion was not scored.
          mask: [prompts, group, length] bool, the tokens of scored completions.
          penalties: [prompts, group, length], what each token costs, such as KL to a reference.
          values: [prompts, group, length], or None.
        """
        ...


class OfCompletions:
    """The base of advantages that all tokens of a completion share; there are no values."""

    needs_values: ClassVar[bool] = False

    def __call__(
        self,
        scores: np.ndarray,
        mask: np.ndarray,
        penalties: np.ndarray,
        values: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns advantages; see `Advantage`."""
        del values
        rewards = scores - np.where(mask, penalties, 0.0).sum(-1)
        return mask * self.of_rewards(rewards, np.isfinite(scores))[..., None], None

    def of_rewards(self, rewards: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
        """Returns the advantage of each completion, [prompts, group], 0 where it is not scored."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class GroupRelative(OfCompletions):
    """A completion's reward less the mean of its group (GRPO, 2402.03300).

    Attributes:
      scale: what divides: the standard deviation of the "group" (GRPO) or of the "batch"; None:
        nothing (Dr. GRPO, 2503.20783).
    """

    scale: Scale | None = "group"

    def of_rewards(self, rewards: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
        """Returns the scaled differences."""
        return group_relative(rewards, is_scored, self.scale)


@dataclasses.dataclass(frozen=True)
class LeaveOneOut(OfCompletions):
    """A completion's reward less the mean of the others of its group (RLOO, 2402.14740)."""

    def of_rewards(self, rewards: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
        """Returns the differences."""
        return leave_one_out(rewards, is_scored)


@dataclasses.dataclass(frozen=True)
class WholeReward(OfCompletions):
    """A completion's reward less a constant: REINFORCE with a fixed baseline.

    Attributes:
      baseline: the constant.
    """

    baseline: Annotated[float, Domain(-1e6, 1e6)] = 0.0

    def __post_init__(self):
        check_domains(self, "whole_reward")

    def of_rewards(self, rewards: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
        """Returns the differences."""
        return np.where(is_scored, rewards - self.baseline, 0.0)


@dataclasses.dataclass(frozen=True)
class GeneralisedAdvantage:
    """Of each token by the values of a head or critic (GAE, 1506.02438), as PPO takes them.

    Attributes:
      gamma: discount of a token.
      lam: weight of longer looks ahead.
      whiten: whether the advantages of a rollout have mean 0 and variance 1.
    """

    gamma: PositiveFraction = 1.0
    lam: UnitFraction = 0.95
    whiten: bool = True
    needs_values: ClassVar[bool] = True

    def __post_init__(self):
        check_domains(self, "generalised_advantage")

    def __call__(
        self,
        scores: np.ndarray,
        mask: np.ndarray,
        penalties: np.ndarray,
        values: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns advantages and returns."""
        assert values is not None, "asked for by needs_values"
        rewards = token_rewards(np.nan_to_num(scores), mask, penalties)
        found, returns = generalised_advantages(rewards, values, mask, self.gamma, self.lam)
        return (whitened(found, mask) if self.whiten else found), returns
