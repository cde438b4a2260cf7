"""Tasks that programs verify, against Python's own arithmetic, sorting and interpreter."""

import pytest

from jaxgen.data.generated import Expressions, ListPrograms, PairOrder
from jaxgen.errors import ConfigError
from jaxgen.posttraining.rewards import score
from jaxgen.posttraining.verifiers import AnswerMatch, NumberMatch, ProgramTests

DIGITS = ("3579246853", "2345678923", "7654398765")
"""Other digits for those of an expression, none of them 0 or 1."""


def records(source, count=300):
    return source.records_by_index("train").__getitems__(range(count))


def test_comparisons():
    for record in records(PairOrder(digits=3)):
        relation, first, second = record["prompt"].rstrip("=").split()
        key = int if first.isdigit() else str
        ordered = sorted((first, second), key=key)
        assert ordered[0] != ordered[1]
        assert record["answer"] == ordered[relation in ("larger", "later")]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_expressions_are_worth_what_python_says(count):
    for record in records(Expressions(num_operators=count)):
        assert int(record["answer"]) == eval(record["expression"])
        steps = record["solution"].split("=")
        assert len(steps) == count and {eval(step) for step in steps} == {int(record["answer"])}


def test_parentheses_stand_only_where_they_change_something():
    texts = {record["expression"] for record in records(Expressions(num_operators=2), 3000)}
    for text in texts:
        if "(" in text:
            others = [text.translate(str.maketrans("0123456789", d)) for d in DIGITS]
            plain = [other.replace("(", "").replace(")", "") for other in others]
            changes = any(eval(a) != eval(b) for a, b in zip(plain, others, strict=True))
            assert changes or "*(" in text, text
    assert any(text.startswith("(") for text in texts) and any("-(" in text for text in texts)


def test_list_programs_do_what_their_code_does():
    programs = records(ListPrograms("program", num_steps=3), 100)
    for record in programs:
        names = {}
        exec(record["prefix"] + record["answer"], names)
        values = [int(n) for n in record["values"].split()]
        assert names["solve"](values) == [int(n) for n in record["result"].split()]
        for test in record["tests"]:
            exec(test, names)
    results = records(ListPrograms(), 100)
    assert all(record["answer"] == record["result"] for record in results)


def test_verifiers_tell_right_from_wrong():
    sums = records(Expressions(), 5)
    right = [f"It is {record['solution']}" for record in sums]
    assert score(NumberMatch(), sums, right).total.tolist() == [1] * 5
    wrong = [str(int(record["answer"]) + 1) for record in sums]
    assert score(NumberMatch(), sums, wrong).total.tolist() == [0] * 5
    lists = records(ListPrograms(), 5)
    assert score(AnswerMatch(), lists, [r["answer"] for r in lists]).total.tolist() == [1] * 5
    programs = records(ListPrograms("program"), 2)
    assert score(ProgramTests(), programs, [r["answer"] for r in programs]).total.tolist() == [1, 1]
    assert score(ProgramTests(), programs, ["    return values\n"] * 2).total.tolist() == [0, 0]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="use some of"):
        PairOrder(("longer",))
    with pytest.raises(ConfigError, match="use some of"):
        Expressions(("/",))
