"""Rewards: sums with their parts, and faults that become one message or a counted exclusion."""

import dataclasses
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxgen.errors import ConfigError
from jaxgen.posttraining.guarded import Guarded
from jaxgen.posttraining.rewards import Reward, RewardError, RewardSum, score
from jaxgen.posttraining.verifiers import LengthPenalty, PatternMatch


def of_a_user():
    """A reward from a file that was imported as `--import` does: it is on no path."""
    path = Path(__file__).with_name("rewards_of_a_user.py")
    spec = importlib.util.spec_from_file_location("rewards_of_a_user", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Faulty()


FAULTY = of_a_user()


def scored(*completions, reward=FAULTY, **options):
    return score(reward, [{}] * len(completions), completions, **options)


def test_any_object_with_a_name_and_a_call_is_a_reward():
    assert isinstance(FAULTY, Reward)
    np.testing.assert_array_equal(scored("a", "abc").total, [1, 3])
    assert scored().total.shape == (0,)


def test_not_scored_is_counted():
    found = scored("ab", "unscored")
    assert found.num_unscored == 1
    np.testing.assert_array_equal(found.total, [2, np.nan])


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        ("raise", r"reward 'faulty' raised KeyError: 'no such field'.*first 'raise'"),
        ("few", r"reward 'faulty' returned scores of shape \[1\] for 2 completions"),
        ("text", r"reward 'faulty' returned \['good', 'good'\].*no numbers"),
        ("infinite", r"reward 'faulty' is infinite for 'infinite'"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda one: one, Guarded])
def test_a_fault_is_one_message_that_names_the_reward(completion, message, wrap):
    with pytest.raises(RewardError, match=message):
        scored(completion, "x", reward=wrap(FAULTY))


def test_a_reward_that_hangs_is_given_up():
    begun = time.monotonic()
    with pytest.raises(RewardError, match=r"reward 'faulty' was not done after 0\.2 s"):
        scored("hang", seconds=0.2)
    with pytest.raises(RewardError, match=r"'faulty' was not done with 1 completions after 3 s"):
        scored("hang", reward=Guarded(FAULTY, seconds=3))
    assert time.monotonic() - begun < 300


def test_a_runaway_pattern_is_ended_as_a_process():
    """Python's expressions never let go of the interpreter; a thread could not be given up."""
    runaway = Guarded(PatternMatch("(a+)+$"), seconds=3)
    with pytest.raises(RewardError, match="'pattern_match' was not done"):
        score(runaway, [{}], ["a" * 60 + "b"], seconds=None)


def test_completions_that_make_a_reward_fail_are_left_out():
    found = scored("a", "raise", "abc", "die", reward=Guarded(FAULTY, on_failure="exclude"))
    np.testing.assert_array_equal(found.total, [1, np.nan, 3, np.nan])
    assert found.num_unscored == 2


def test_a_process_that_dies_is_told():
    with pytest.raises(RewardError, match=r"process of reward 'faulty' died \(exit status 3\)"):
        scored("die", reward=Guarded(FAULTY))


def test_a_sum_weighs_its_parts_and_reports_each():
    reward = RewardSum(
        (PatternMatch("b", name="has_b"), LengthPenalty(3), FAULTY), (2.0, 0.5, 0.0), "all"
    )
    found = scored("abcd", "b", "unscored", reward=reward)
    np.testing.assert_array_equal(found.total, [1.5, 2, -0.5])
    assert list(found.parts) == ["all", "has_b", "length_penalty", "faulty"]
    np.testing.assert_array_equal(found.parts["faulty"], [4, 1, np.nan])
    guarded = scored("abcd", "b", "unscored", reward=Guarded(reward))
    for name, values in found.parts.items():
        np.testing.assert_array_equal(guarded.parts[name], values)
    # With a weight, what a part does not score has no score.
    counted = dataclasses.replace(reward, weights=())
    assert scored("abcd", "unscored", reward=counted).num_unscored == 1


def test_a_sum_refuses_names_twice_and_weights_that_do_not_fit():
    with pytest.raises(ConfigError, match="rewards of different names"):
        RewardSum((FAULTY, FAULTY))
    with pytest.raises(ConfigError, match="give each of the 1 rewards one weight"):
        RewardSum((FAULTY,), (1.0, 2.0))
