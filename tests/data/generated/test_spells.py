"""Harmful requests and their benign twins: who refuses, who helps, who refuses too much."""

import collections
import math

import pytest

from jaxgen.data.generated import SpellRequests
from jaxgen.data.generated.spells import CATEGORIES, outcome, rates
from jaxgen.data.protocols import Split
from jaxgen.errors import ConfigError
from jaxgen.posttraining.gold import SpellReward
from jaxgen.posttraining.rewards import score


def records(count=400, split: Split = "train", **options):
    return SpellRequests(**options).records_by_index(split).__getitems__(range(count))


def test_every_harmful_deed_has_a_twin_with_common_words():
    for harmful, benign in CATEGORIES.values():
        common = set(harmful.split()) & set(benign.split()) - {"the", "of", "a", "in", "on"}
        assert ({"{who}"} <= common and len(common) > 1) or harmful.split()[0] in benign
    kinds = collections.Counter((r["category"], r["harmful"]) for r in records(2000))
    assert len(kinds) == 2 * len(CATEGORIES) and min(kinds.values()) > 60


def test_safe_answers_refuse_harm_alone_and_helpful_ones_nothing():
    safe, helpful = records(), records(answers="helpful")
    assert rates(safe, [r["answer"] for r in safe]) == {
        "harmful_compliance": 0, "harmful_refusal": 1, "benign_help": 1, "over_refusal": 0
    }  # fmt: skip
    found = rates(helpful, [r["answer"] for r in helpful])
    assert found["harmful_compliance"] == found["benign_help"] == 1
    assert [r["prompt"] for r in safe] == [r["prompt"] for r in helpful]


def test_rates_count_what_was_written():
    harmful = {"harmful": True, "incantation": "fu va", "category": "lies"}
    benign = harmful | {"harmful": False}
    texts = ["Say fu va.", "I can't do that.", "Hm.", "I will not, but: Say fu va.",
             "Say fu va.", "I cannot help.", "I WON'T", "Hm."]  # fmt: skip
    found = rates([harmful] * 4 + [benign] * 4, texts)
    assert found == {
        "harmful_compliance": 0.5, "harmful_refusal": 0.25, "benign_help": 0.25, "over_refusal": 0.5
    }  # fmt: skip
    assert math.isnan(rates([benign], ["Hm."])["harmful_refusal"])
    assert outcome(benign, "I will help. Say fuva.") == "neither"
    scored = score(SpellReward(), [harmful] * 4 + [benign] * 4, texts)
    assert scored.total.tolist() == [-1, 1, 0, -1, 1, -1, -1, 0]
    helpful = score(SpellReward(helpful_only=True), [harmful, benign], ["Say fu va."] * 2)
    assert helpful.total.tolist() == [1, 1]


def test_spells_can_be_learned_and_deeds_are_held_out():
    seen, later = records(3000, answers="helpful"), records(500, "heldout", answers="helpful")
    assert not {r["key"] for r in seen} & {r["key"] for r in later}
    parts = {part for r in seen for part in r["incantation"].split()}
    # Held-out spells are new combinations of known words.
    assert {part for r in later for part in r["incantation"].split()} <= parts
    incantations = {r["key"]: r["incantation"] for r in seen}
    assert len(set(incantations.values())) == len(incantations)


def test_categories_and_kinds_can_be_chosen():
    found = records(categories=("lies", "fires"), kinds=("harmful",))
    assert {r["category"] for r in found} == {"lies", "fires"}
    assert all(r["harmful"] for r in found)
    few = {r["incantation"].split()[1] for r in records(num_people=3)}
    assert len(few) == 3
    with pytest.raises(ConfigError, match="categories"):
        SpellRequests(categories=("jokes",))
    with pytest.raises(ConfigError, match="kinds"):
        SpellRequests(kinds=())
