"""Dialogues whose facts can be checked, and ratings that follow from how a response was made."""

import collections

import numpy as np
import pytest

from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import RatedResponses, TownDialogues
from jaxgen.data.generated.dialogues import ATTRIBUTES, exchange
from jaxgen.data.generated.town import Town, groundedness
from jaxgen.data.generated.translation import lexicon
from jaxgen.data.protocols import Split
from jaxgen.posttraining.gold import GroundedReward
from jaxgen.posttraining.rewards import score


def records(source, count=300, split: Split = "train"):
    return source.records_by_index(split).__getitems__(range(count))


def test_the_facts_are_claims_that_are_so():
    town = Town()
    for fact in town.knowledge():
        assert groundedness(town, fact) == (1, 1)
    elsewhere = [groundedness(Town(1), fact)[1] for fact in town.knowledge()]
    assert sum(elsewhere) < 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I do not know.", (0, 0)),
        ("Ada lives in {home}. She sells lanterns.", (1, 1)),
        ("Nobody lives in {home}.", (1, 0)),
        ("A lantern costs {price} coins in Velm; 3 lanterns cost {total} coins in Velm.", (2, 2)),
        ("3 lanterns cost {price} coins in Velm.", (1, 0)),
        ("A dragon costs 3 coins in Velm.", (1, 0)),
        ("The cook is {cook} in Tovi. The cook is nobody in Tovi.", (2, 1)),
    ],
)  # fmt: skip
def test_claims_are_checked_by_rule(text, expected):
    town = Town()
    price = town.price("lantern", "Velm")
    text = text.format(home=town.home("Ada"), price=price, total=3 * price, cook=lexicon()["cook"])
    assert groundedness(town, text) == expected
    found = score(GroundedReward(), [{}], [text])
    assert found.num_unscored == (expected[0] == 0)
    if expected[0]:
        assert found.total.item() == expected[1] / expected[0]
    else:
        assert score(GroundedReward(without_claims=0.5), [{}], [text]).total.item() == 0.5


@pytest.mark.parametrize("tools", [False, True])
def test_answers_are_grounded_and_facts_are_listed(tools):
    town = Town()
    for record in records(TownDialogues(turns=3, tools=tools)):
        roles = [message["role"] for message in record["messages"]]
        assert roles.count("user") == 3 and roles[-1] == "assistant"
        assert ("tool" in roles) == tools
        assert set(record["facts"]) <= set(town.knowledge())
        assert record["messages"][-1]["content"].endswith(record["answer"])
        assert record["prompt"] in record["key"]
        claims, supported = groundedness(town, record["answer"])
        assert claims == supported == 1
    dialogues = {split: {r["key"] for r in records(TownDialogues(), 1000, split)}
                 for split in ("train", "heldout")}  # fmt: skip
    assert not dialogues["train"] & dialogues["heldout"]


def test_wrong_answers_are_wrong():
    town = Town()
    for number in range(300):
        one = exchange(town, np.uint64(number))
        assert groundedness(town, one.answer) == (1, 1) and groundedness(town, one.wrong) == (1, 0)


def test_loss_is_on_the_assistants_turns_alone():
    (record,) = records(TownDialogues(tools=True), 1)
    parts = Chat().parts(record)
    in_loss = "".join(part.text for part in parts if part.in_loss)
    said = [m["content"] for m in record["messages"] if m["role"] == "assistant"]
    assert in_loss == "".join(f"{text}<|end_of_turn|>" for text in said)


def test_ratings_follow_from_the_kind_of_response():
    town, seen = Town(), collections.Counter()
    for record in records(RatedResponses(), 2000):
        kind, attribute, rating = record["kind"], record["attribute"], record["rating"]
        seen[attribute, rating] += 1
        context, _, rest = record["prompt"].partition(" RESPONSE ")
        assert context == record["context"] and rest == f"{record['response']} {attribute}"
        assert record["answer"] == f" {rating}"
        claims, supported = groundedness(town, record["response"])
        if attribute == "GROUNDED":
            assert rating == (claims == supported)
        if attribute == "SAFE":
            assert rating == (not record["response"].startswith("You could"))
        if attribute == "INTERESTING":
            assert rating == ("Did you know?" in record["response"])
        if attribute == "SENSIBLE" and kind == "unrelated":
            assert rating == 0
    assert all(seen[attribute, rating] > 20 for attribute in ATTRIBUTES for rating in (0, 1))


def test_a_rating_is_in_the_loss_and_its_response_is_not():
    (rated,) = records(RatedResponses(), 1)
    (written,) = records(RatedResponses(rows="generative"), 1)
    features = PromptAnswer()
    assert [p.text for p in features.parts(rated) if p.in_loss] == [f" {rated['rating']}"]
    assert [p.text for p in features.parts(written) if p.in_loss] == [f" {written['response']}"]
    for record in records(RatedResponses(rows="generative")):
        assert record["kind"] in ("good", "lively") and record["prompt"].endswith(" RESPONSE")
