"""Verifiers against answers that a reader can check."""

import math

import pytest

from jaxgen.data.generated import AssociativeRecall, CodeInfilling
from jaxgen.errors import ConfigError, DataError
from jaxgen.posttraining.rewards import score
from jaxgen.posttraining.verifiers import (
    AnswerMatch,
    LengthPenalty,
    MetricReward,
    NumberMatch,
    PatternMatch,
    ProgramTests,
    numbers_in,
)


def one(reward, record, completion):
    return score(reward, [record], [completion]).total.item()


@pytest.mark.parametrize(
    ("completion", "expected"),
    [("12", 1), (" 12\nand more", 1), ("012", 0), ("12 or 13", 0), ("", 0)],
)
def test_exact_answers(completion, expected):
    assert one(AnswerMatch(), {"answer": " 12"}, completion) == expected


def test_answers_of_turns_messages_and_lists():
    (record,) = AssociativeRecall().records_by_index("train").__getitems__([0])
    assert one(AnswerMatch(), record, record["turns"][-1][1]) == 1
    chat = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "A"}]}
    assert one(AnswerMatch(), chat, "A") == 1
    assert one(AnswerMatch(), {"targets": ["ja", "yes"]}, "yes") == 1
    assert one(AnswerMatch("edit_similarity"), {"targets": ["abcd", "x"]}, "abcx") == 0.75
    with pytest.raises(DataError, match="asks for the answer 'answer'"):
        one(AnswerMatch(), {"text": "x"}, "x")


def test_answers_after_a_mark():
    reward = AnswerMatch(after="answer:")
    assert one(reward, {"answer": "7"}, "3 + 4\nanswer: 8\nanswer: 7") == 1
    assert one(reward, {"answer": "7"}, "7") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,250.5 and -3", [1250.5, -3]),
        ("a1 x2y 3.", [3]),
        ("1/2, 5/0", [0.5]),
        ("7-4=3", [7, 4, 3]),
        ("v1.2.3", []),
        ("none", []),
    ],
)
def test_numbers_in_a_text(text, expected):
    assert numbers_in(text) == expected


def test_numbers_of_completions():
    record = {"answer": "The sum is 1,250"}
    assert one(NumberMatch(), record, "so there are 1250.0 of them.") == 1
    assert one(NumberMatch(), record, "1250, or 1251") == 0
    assert one(NumberMatch(which="first"), record, "1250, or 1251") == 1
    assert one(NumberMatch(tolerance=0.01), record, "1251") == 1
    assert one(NumberMatch(after="####"), record, "1250") == 0
    assert one(NumberMatch(after="####"), record, "1 #### 1250") == 1
    assert one(NumberMatch(), record, "many") == 0
    with pytest.raises(DataError, match="has no number"):
        one(NumberMatch(), {"answer": "many"}, "1")


def test_programs_run_against_their_tests():
    records = CodeInfilling(num_tests=2).records_by_index("train").__getitems__([0, 1])
    right = [record["answer"] for record in records]
    assert score(ProgramTests(), records, right).total.tolist() == [1, 1]
    assert score(ProgramTests(), records, ["0", "while True: pass"]).total.tolist() == [0, 0]
    record = {"tests": ["assert solve(2) == 4", "assert solve(3) == 9"]}
    doubles = "Like this:\n```python\ndef solve(n):\n    return 2 * n\n```\nDone."
    assert one(ProgramTests(), record, doubles) == 0
    assert one(ProgramTests(share=True), record, doubles) == 0.5
    assert one(ProgramTests(), record, doubles.replace("2 * n", "n * n")) == 1


def test_forms_and_lengths():
    form = PatternMatch("<think>.*</think>.+", whole=True)
    assert one(form, {}, "<think>\n3\n</think> 4") == 1
    assert one(form, {}, "4 <think></think> 4") == 0
    with pytest.raises(ConfigError, match=r"pattern_match\.pattern"):
        PatternMatch("(")
    penalty = LengthPenalty(10, buffer=4)
    found = [one(penalty, {}, "x" * n) for n in (0, 6, 7, 10, 11)]
    assert found == [0, 0, -0.25, -1, -1]
    assert one(LengthPenalty(2, unit="words"), {}, "one two") == 0
    assert one(LengthPenalty(2, unit="words"), {}, "one two three") == -1
    with pytest.raises(ConfigError, match="buffer=5 exceeds most=4"):
        LengthPenalty(4, buffer=5)


def test_a_tasks_own_metric_is_a_reward():
    class Vowels:
        name = "vowels"

        def score(self, record, reference, completion):
            return math.fsum(letter in "aeiou" for letter in completion) - len(reference)

    assert one(MetricReward(Vowels()), {"answer": "x"}, "banana") == 2
