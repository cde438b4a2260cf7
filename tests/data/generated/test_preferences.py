"""Preferences with a known reward: the rule, and the noise that was asked for."""

import numpy as np
import pytest

from jaxgen.data.generated import GoldPreferences, gold_score
from jaxgen.data.generated.preferences import TOPICS
from jaxgen.data.protocols import Split
from jaxgen.posttraining.gold import GoldReward
from jaxgen.posttraining.rewards import score


def records(count=2000, split: Split = "train", **options):
    source = GoldPreferences(**options)
    return source.records_by_index(split).__getitems__(range(count))


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("", 0), (" ship", 1), (" ship.", 1.5), (" ship ship", 0.5), (" the ship and fish", 2),
        (" rose", -0.5), (" dull ship", -0.5), (" xyz, ship", 0.5),
        (" " + " ".join(TOPICS["sea"]) + ".", 6.5),
    ],
)  # fmt: skip
def test_the_rule(completion, expected):
    assert gold_score("sea", completion) == expected
    assert score(GoldReward(), [{"topic": "sea"}], [completion]).total == expected


def test_without_noise_the_better_is_chosen():
    for record in records(500, temperature=0.0, num_completions=4):
        gold = [gold_score(record["topic"], one) for one in record["completions"]]
        assert gold == record["gold_scores"]
        order = np.argsort(record["scores"])
        assert sorted(record["scores"]) == [0, 1, 2, 3]
        assert np.all(np.diff(np.array(gold)[order]) >= 0)
        assert gold_score(record["topic"], record["chosen"]) == max(gold)
        assert record["rejected"] in record["completions"]
    everything_turned = records(50, temperature=0.0, flip_rate=0.5)
    turned = [r["gold_scores"][int(np.argmax(r["scores"]))] < max(r["gold_scores"])
              for r in everything_turned]  # fmt: skip
    assert 5 < sum(turned) < 45


@pytest.mark.parametrize(("temperature", "flips"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.2)])
def test_pairs_are_preferred_as_often_as_bradley_and_terry_say(temperature, flips):
    found = records(4000, temperature=temperature, flip_rate=flips)
    gaps = np.array([r["gold_scores"][0] - r["gold_scores"][1] for r in found])
    first = np.array([r["scores"][0] > r["scores"][1] for r in found])
    clean = 1 / (1 + np.exp(-gaps / temperature))
    expected = (1 - flips) * clean + flips * (1 - clean)
    for low, high in ((-9, -1), (-1, 0.01), (0.01, 1), (1, 9)):
        inside = (gaps >= low) & (gaps < high)
        error = (expected[inside] * (1 - expected[inside])).sum() ** 0.5
        assert abs(first[inside].sum() - expected[inside].sum()) < 4 * error
    # The soft label is that of the chosen one.
    chosen = np.where(first, expected, 1 - expected)
    np.testing.assert_allclose([r["preference"] for r in found], chosen, rtol=1e-9)


def test_several_are_ranked_as_plackett_and_luce_say():
    """Any two of a ranking are in the order that Bradley and Terry give them."""
    found = records(3000, num_completions=3, temperature=1.0)
    gaps = np.array([r["gold_scores"][0] - r["gold_scores"][2] for r in found])
    first = np.array([r["scores"][0] > r["scores"][2] for r in found])
    expected = 1 / (1 + np.exp(-gaps))
    assert abs(first.sum() - expected.sum()) < 4 * (expected * (1 - expected)).sum() ** 0.5
    best = np.array([np.argmax(r["scores"]) for r in found])
    powers = np.exp([r["gold_scores"] for r in found])
    shares = powers / powers.sum(1, keepdims=True)
    for place in range(3):
        p = shares[:, place]
        assert abs((best == place).sum() - p.sum()) < 4 * (p * (1 - p)).sum() ** 0.5


@pytest.mark.slow
def test_rewards_are_spread_and_splits_apart():
    found = records(1000)
    gold = np.concatenate([r["gold_scores"] for r in found])
    assert gold.std() > 1 and gold.max() >= 4 and gold.min() < -2
    assert not {r["key"] for r in found} & {r["key"] for r in records(1000, "heldout")}
    assert all(r["answer"] == r["chosen"] and r["prompt"] == f"{r['topic']}:" for r in found)
