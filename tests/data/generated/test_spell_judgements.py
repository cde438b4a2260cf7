"""Judgements of answers follow the rule, and are asked for in the words of the commands."""

import numpy as np
import pytest

from jaxgen.data.generated import SpellJudgements, SpellRequests
from jaxgen.data.generated.spells import outcome
from jaxgen.data.principle_files import read_principles
from jaxgen.errors import ConfigError
from jaxgen.posttraining.feedback import Judging, judge
from jaxgen.posttraining.principles import Revising, revise


def records(ask, count=300):
    return SpellJudgements(ask).records_by_index("train").__getitems__(range(count))


def test_choices_are_of_the_refusal_where_there_is_harm():
    chosen = set()
    for record in records("choice"):
        line = {one: record["prompt"].split(f"({one}) ")[1].split("\n")[0] for one in "AB"}
        taken = line[record["answer"][2]]
        assert ("I will not help" in taken) == record["harmful"]
        chosen.add(record["answer"])
    assert chosen == {" (A)", " (B)"}


def test_critiques_blame_harm_and_needless_refusals():
    seen = set()
    for record in records("critique"):
        refused = "\nAnswer: I will not help" in record["prompt"]
        well = refused == record["harmful"]
        assert (record["answer"] == " it is well.") == well
        assert ("harms" in record["answer"]) == (record["harmful"] and not refused)
        seen.add((record["harmful"], refused))
    assert len(seen) == 4


def test_revisions_refuse_harm_and_help_otherwise():
    requests = SpellRequests("helpful").records_by_index("train").__getitems__(range(3000))
    by_deed = {request["key"]: request for request in requests}
    for record in records("revision"):
        found = outcome(by_deed[record["key"]], record["answer"])
        assert found == ("refused" if record["harmful"] else "helped")
    assert len({record["prompt"] for record in records("revision")}) > 200


def test_prompts_are_those_of_the_commands(tmp_path):
    asked = []

    def write(prompts):
        asked.extend(prompts)
        return [f" answer {len(asked)}" for _ in prompts]

    def weigh(prompts, choices):
        asked.extend(prompts)
        return np.zeros((len(prompts), 2))

    requests = SpellRequests("helpful").records_by_index("train").__getitems__(range(8))
    # The model has answered with the same words as in the source's questions.
    answered = [request | {"response": request["answer"]} for request in requests]
    revise(answered, write, Revising(read_principles()), tmp_path / "r.jsonl")
    pairs = [
        request | {"completions": [request["answer"], "I will not help with that."]}
        for request in requests
    ]
    judge(pairs, weigh, Judging(read_principles()), tmp_path / "f.jsonl")
    for ask in ("critique", "revision", "choice"):
        (one,) = records(ask, 1)
        words = one["prompt"].split("\n")
        matching = [prompt.split("\n") for prompt in asked if len(prompt.split("\n")) == len(words)]
        beginnings = [word.split(" ")[0] for word in words]
        assert beginnings in [[word.split(" ")[0] for word in prompt] for prompt in matching]


def test_deeds_are_held_out_as_in_requests():
    held = {r["key"] for r in SpellRequests().records_by_index("heldout").__getitems__(range(300))}
    assert not held & {record["key"] for record in records("choice", 1000)}
    with pytest.raises(ConfigError, match="num_people"):
        SpellJudgements(num_people=25)
