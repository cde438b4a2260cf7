"""Tools against Python's arithmetic, hand-computed scores and the dialogues that use them."""

import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgen.data.generated import TownDialogues
from jaxgen.data.generated.town import Town
from jaxgen.data.generated.translation import lexicon
from jaxgen.errors import DataError
from jaxgen.posttraining.tools import (
    Calculator,
    Retriever,
    Toolset,
    Translator,
    calculate,
    read_documents,
)

CALCULATOR = Calculator()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("135+7721", "7856"), ("2 + 3 * 4 =", "14"), ("(2+3)*4?", "20"), ("1,250 - 0.5", "1249.5"),
        ("7/2", "3.5"),
        ("1/3", "0.333333333333"), ("-3*-3", "9"), ("-2^2", "-4"), ("2**10", "1024"),
        ("2^3^2", "512"), ("2^-1", "0.5"), ("10/4*2", "5"), ("8-3-2", "3"),
        ("12", None), ("-12", None), ("lantern Velm", None), ("1+", None), ("(1+2", None),
        ("1/0", None), ("2^0.5", None), ("", None), ("1 2 + 3", None), ("3 lanterns * 2", None),
    ],
)  # fmt: skip
def test_calculator(query, expected):
    assert CALCULATOR(query) == expected


EXPRESSIONS = st.recursive(
    st.integers(0, 999).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda one: f"-{one}"),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_calculator_agrees_with_python(expression):
    value = calculate(expression)
    assert value is None if not set(expression) & set("+-*") else True
    if value is not None:
        assert value == eval(expression)


@pytest.mark.parametrize("query", ["9^9^9^9", "9**9999", "(" * 3000, "1" * 199 + "+1", "9" * 5000,
                                   "__import__('os').system('true')"])  # fmt: skip
def test_no_query_takes_long_or_runs_code(query):
    begun = time.monotonic()
    assert CALCULATOR(query) is None
    assert time.monotonic() - begun < 30


def test_translator():
    translator = Translator()
    assert translator("cook in Tovi") == lexicon()["cook"]
    assert (
        translator("translate the old cook into Tovi?") == f"{lexicon()['old']} {lexicon()['cook']}"
    )
    assert translator(f"{lexicon()['cook']} in English") == "cook"
    assert (
        translator("xylophone in Tovi") is translator("cook in French") is translator("2+2") is None
    )


def test_scores_are_those_of_the_formula():
    documents = ("red fish blue fish", "one fish", "old red shoe")
    found = dict(Retriever(documents, 1.2, 0.75).search("Red fish"))
    mean = (4 + 2 + 3) / 3

    def weight(n):
        return math.log(1 + (3 - n + 0.5) / (n + 0.5))

    def term(f, length, n):
        return weight(n) * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * length / mean))

    expected = {0: term(1, 4, 2) + term(2, 4, 2), 1: term(1, 2, 2), 2: term(1, 3, 2)}
    assert found.keys() == expected.keys()
    for number, value in expected.items():
        assert math.isclose(found[number], value, rel_tol=1e-12)
    order = [number for number, _ in Retriever(documents).search("Red fish")]
    assert order == sorted(expected, key=lambda number: -expected[number])


def test_a_retriever_gives_its_next_snippet_and_then_nothing():
    retriever = Retriever(("a fish", "b fish fish", "a bird"))
    found = [retriever("fish", repeat) for repeat in range(3)]
    assert found == ["b fish fish", "a fish", None] and retriever("wolf") is None
    assert [
        n for n, _ in Retriever(("a fish", "fish bird"), least_share=1).search("bird fish")
    ] == [1]


def test_every_fact_of_the_town_is_found_by_its_own_words():
    knowledge = Town().knowledge()
    retriever = Retriever(knowledge)
    assert len(set(knowledge)) == len(knowledge) == 96
    for fact in knowledge:
        assert retriever(fact) == fact


def test_a_toolset_asks_in_order_and_joins_what_it_hears():
    documents = ("3 coins buy a candle", "2 + 2 coins")
    tools = Toolset((CALCULATOR, Translator(), Retriever(documents)))
    assert tools("2 + 2") == "4" and tools("nothing here") == ""
    assert tools("cook in Tovi") == lexicon()["cook"]
    assert Toolset((Retriever(documents), Retriever(("coins",))))("coins", 0).splitlines() == [
        "2 + 2 coins", "coins"
    ]  # fmt: skip


def test_dialogues_have_what_the_tools_really_say():
    tools = Toolset((CALCULATOR, Translator(), Retriever(Town().knowledge(), least_share=1)))
    calls = 0
    for record in (
        TownDialogues(turns=3, tools=True).records_by_index("train").__getitems__(range(100))
    ):
        turns = record["messages"]
        for asked, heard in itertools.pairwise(turns):
            if heard["role"] == "tool":
                assert asked["content"].startswith("TS, ")
                assert tools(asked["content"][4:]) == heard["content"]
                calls += 1
    assert calls > 200


def test_documents_of_files(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    for name in ("a.jsonl", "b.txt"):
        assert read_documents(str(tmp_path / name)) == ("one", "two")
    (tmp_path / "c.jsonl").write_text('{"txt": "one"}\n')
    with pytest.raises(DataError, match="line 1: no JSON object with a text in 'text'"):
        read_documents(str(tmp_path / "c.jsonl"))
    with pytest.raises(DataError, match="cannot be read as documents"):
        read_documents(str(tmp_path / "d.txt"))
