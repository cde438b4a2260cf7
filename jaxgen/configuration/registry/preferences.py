"""The names of comparisons and rewards, and of what learns from them."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_rewards() -> Table:
    """Returns the names of what scores completions, and of what learns from scores."""
    from jaxgen.objectives.policy_gradient import PolicyGradient
    from jaxgen.objectives.with_text import WithText
    from jaxgen.posttraining import verifiers
    from jaxgen.posttraining.advantages import (
        GeneralisedAdvantage,
        GroupRelative,
        LeaveOneOut,
        WholeReward,
    )
    from jaxgen.posttraining.gold import GoldReward, GroundedReward, SpellReward
    from jaxgen.posttraining.guarded import Guarded
    from jaxgen.posttraining.reasoning import ReasoningGymScore
    from jaxgen.posttraining.rewarded import RewardedCompletions
    from jaxgen.posttraining.rewards import RewardSum
    from jaxgen.posttraining.rollouts import Rollouts
    from jaxgen.posttraining.rollouts_and_text import RolloutsAndText
    from jaxgen.runs.reward_models import RunReward

    return {
        "rollouts": Rollouts,
        "rollouts_and_text": RolloutsAndText,
        "with_text_loss": WithText,
        "rewarded_completions": RewardedCompletions,
        "run_reward": RunReward,
        "policy_gradient": PolicyGradient,
        "group_relative": GroupRelative,
        "leave_one_out": LeaveOneOut,
        "generalised_advantage": GeneralisedAdvantage,
        "whole_reward": WholeReward,
        "answer_match": verifiers.AnswerMatch,
        "metric_reward": verifiers.MetricReward,
        "number_match": verifiers.NumberMatch,
        "program_tests": verifiers.ProgramTests,
        "pattern_match": verifiers.PatternMatch,
        "length_penalty": verifiers.LengthPenalty,
        "gold_reward": GoldReward,
        "spell_reward": SpellReward,
        "grounded_reward": GroundedReward,
        "reasoning_gym_score": ReasoningGymScore,
        "reward_sum": RewardSum,
        "guarded": Guarded,
    }


def registered_preferences() -> Table:
    """Returns the names of comparisons, and of what learns from them and is asked about them."""
    from jaxgen.data.comparison_fields import (
        LabelledCompletions,
        PreferencePairs,
        RankedCompletions,
        ScoredSteps,
    )
    from jaxgen.data.comparisons import Comparisons
    from jaxgen.data.unpairing import Unpair
    from jaxgen.evaluation.preferences import PreferenceAccuracy, StepAccuracy
    from jaxgen.objectives.preference import KTO, Preference
    from jaxgen.objectives.reward import ProcessRewards, RewardModeling

    return {
        "comparisons": Comparisons,
        "preference_pairs": PreferencePairs,
        "ranked_completions": RankedCompletions,
        "labelled_completions": LabelledCompletions,
        "scored_steps": ScoredSteps,
        "unpair": Unpair,
        "preference_loss": Preference,
        "kto_loss": KTO,
        "reward_loss": RewardModeling,
        "step_reward_loss": ProcessRewards,
        "preference_accuracy": PreferenceAccuracy,
        "step_accuracy": StepAccuracy,
    }
