"""Answers against independent rules; pinned records, so that none changes by accident."""

import itertools
import re

import pytest

from jaxgen.data.generated import (
    Addition,
    CodeInfilling,
    Dyck,
    EventSummary,
    InContextRegression,
    Induction,
    ListFunctions,
    ModularArithmetic,
    PassageQuestions,
    SparseParity,
    ToyTranslation,
    Unscrambling,
    WordCompletion,
    item_scores,
)
from jaxgen.data.generated.translation import ADJECTIVES, lexicon


def records(source, count=200):
    return source.records_by_index("train").__getitems__(range(count))


def test_reversed_sums():
    for record in records(Addition(4, format="reversed")):
        assert int(record["answer"][::-1]) == eval(re.sub(r"\b0+(?=\d)", "", record["prompt"][:-1]))


def test_scratchpads_add_up():
    for record in records(Addition(3, format="scratchpad")):
        steps, total = record["answer"].split(";")
        assert int(total) == sum(map(int, record["prompt"][:-1].split("+")))
        columns = [step.split("=") for step in steps.split(",")]
        assert all(eval(sums) == int(value) for sums, value in columns)
        assert [sums[0] for sums, _ in columns] == list(record["prompt"][2::-1])
        assert [sums[4] for sums, _ in columns] == [
            "0",
            *(value[0] for _, value in columns[:-1]),
        ]
        assert total == columns[-1][1] + "".join(value[1] for _, value in columns[-2::-1])


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply"])
def test_modular_arithmetic(operation):
    for record in records(ModularArithmetic(97, operation)):
        problem = re.sub(r"\b0(?=\d)", "", record["prompt"][:-1])
        assert int(record["answer"]) == eval(f"({problem}) % 97") and len(record["answer"]) == 2


def test_induction():
    for record in records(Induction(10, 2)):
        sequence, asked = record["prompt"].split(":")
        assert len(set(sequence)) == 10 and asked + record["answer"] in sequence


def test_parity_of_the_subtasks_bits():
    source = SparseParity(5, 12)
    seen: dict[int, list[str]] = {}
    for record in records(source, 2000):
        control, bits = record["prompt"][:-1].split()
        assert control.count("1") == 1
        subtask = control.index("1")
        odd = [bits[place] for place in source.places(subtask)].count("1") in (1, 3)
        assert record["answer"] == "01"[odd]
        seen.setdefault(subtask, []).append(record["answer"])
    shares = [len(seen[subtask]) / 2000 for subtask in range(5)]
    assert shares == pytest.approx(list(source.frequencies), abs=0.04)
    assert shares[0] / shares[1] == pytest.approx(2**1.4, rel=0.2)


def test_subtasks_scored_separately_are_held_out_of_all_of_them():
    whole, part = SparseParity(4, 6), SparseParity(4, 6, drawn=(1, 3))
    scored = part.records_by_index("heldout").__getitems__(range(200))
    assert {record["subtask"] for record in scored} == {1, 3}
    trained = {
        record["key"] for record in whole.records_by_index("train").__getitems__(range(3000))
    }
    assert trained.isdisjoint(record["key"] for record in scored)


def test_unscrambled_words_are_the_only_ones():
    source = Unscrambling()
    by_letters = {"".join(sorted(word)): word for word in source.words}
    assert len(by_letters) == len(source.words) == 500
    for record in records(source):
        letters = record["prompt"][:-1]
        assert by_letters["".join(sorted(letters))] == record["answer"] != letters


def test_the_rest_of_a_word_follows_from_what_is_given():
    source = WordCompletion()
    rests = dict(source.halves)
    assert len(rests) == len(source.halves) == 500
    for record in records(source):
        assert record["answer"] == rests[record["prompt"]]
        assert len(record["prompt"]) - len(record["answer"]) in (0, 1)
    assert rests["func"] == "tion" and rests["attri"] == "bute"


def test_brackets_balance():
    partner = dict(zip(")]}>", "([{<", strict=True))
    for record in records(Dyck(4, 5, 7)):
        stack = []
        for bracket in record["prompt"][:-1] + record["answer"]:
            if bracket in partner:
                assert stack.pop() == partner[bracket]
            else:
                stack.append(bracket)
        assert not stack and set(record["answer"]) <= partner.keys()


def by_loops(name, digits):
    """The functions of lists once more, by other means."""
    if name == "reverse":
        return list(reversed(digits))
    if name == "sort":
        return [digit for digit in range(10) for _ in range(digits.count(digit))]
    if name == "rotate":
        return [digits[(place + 1) % len(digits)] for place in range(len(digits))]
    if name == "unique":
        return [d for place, d in enumerate(digits) if d not in digits[:place]]
    return [{"maximum": sorted(digits)[-1], "minimum": sorted(digits)[0]}.get(name, len(digits))]


def numbers(text):
    return [int(digit) for digit in text.split()]


def test_named_functions_of_lists():
    for record in records(ListFunctions()):
        name, digits = record["prompt"][:-1].split(" ", 1)
        assert numbers(record["answer"]) == by_loops(name, numbers(digits))


def test_examples_of_functions_leave_one_answer():
    source = ListFunctions(function_by="examples", num_shots=2)
    for record in records(source):
        *examples, asked = record["prompt"][:-1].split(";")
        shown = [tuple(map(numbers, example.split(">"))) for example in examples]
        agreeing = [n for n in source.functions if all(by_loops(n, x) == y for x, y in shown)]
        answers = {tuple(by_loops(name, numbers(asked))) for name in agreeing}
        assert answers == {tuple(numbers(record["answer"]))} and record["function"] in agreeing


def test_one_line_goes_through_all_points():
    for record in records(InContextRegression(3, 11)):
        points = [tuple(map(int, p.split(">"))) for p in record["prompt"].split(",")[:-1]]
        points.append((int(record["prompt"].split(",")[-1][:-1]), int(record["answer"])))
        lines = {
            (a, b)
            for a, b in itertools.product(range(11), repeat=2)
            if all((a * x + b) % 11 == y for x, y in points[:3])
        }
        assert len(lines) == 1 and len({x for x, _ in points}) == 4
        a, b = lines.pop()
        assert (a * points[3][0] + b) % 11 == points[3][1]


def test_translations_go_back_word_by_word():
    back = {written: word for word, written in lexicon().items()}
    assert len(back) == len(lexicon()) == 48
    for record in records(ToyTranslation(clauses=2)):
        clauses = []
        for clause in record["answer"].split(" ja "):
            verb, *rest = clause.split()
            plural = verb.endswith("n")
            phrases: list[list[str]] = []
            numbers_: list[bool] = []
            for word in rest:
                several = len(word) == 6
                english = back[word[:4]]
                if english in ADJECTIVES:
                    phrases[-1].insert(0, english)
                    assert several == numbers_[-1]
                else:
                    phrases.append([english + "s" * several])
                    numbers_.append(several)
            assert plural == numbers_[0] and len(phrases) == 2
            written = back[verb[:4]] + "s" * (not plural)
            subject, object_ = (" ".join(["the", *phrase]) for phrase in phrases)
            clauses.append(f"{subject} {written} {object_}")
        assert " and ".join(clauses) + "=" == record["prompt"]


ASKED = {
    r"Where does (\w+) live\?": (r"{0} lives in (\w+)\.", r"The home of {0} is in (\w+)\."),
    r"What is the work of (\w+)\?": (r"{0} works as a (\w+)\.", r"{0} earns a living as a (\w+)\."),
    r"Which pet does (\w+) have\?": (r"{0} has a (\w+)\.", r"A (\w+) lives with {0}\."),
    r"Which colour does (\w+) like best\?": (
        r"{0} likes (\w+) best\.", r"The favourite colour of {0} is (\w+)\.",
    ),
}  # fmt: skip


def test_a_passage_has_one_answer():
    for record in records(PassageQuestions(num_facts=12)):
        passage, question, _ = record["prompt"].split("\n")
        (who, patterns), = (
            (match[1], patterns) for asked, patterns in ASKED.items()
            if (match := re.fullmatch(asked, question))
        )  # fmt: skip
        found = [v for pattern in patterns for v in re.findall(pattern.format(who), passage)]
        assert found == [record["answer"].strip()] and passage.count(".") == 13


def test_summaries_list_what_was_done():
    for record in records(EventSummary()):
        passage, question, _ = record["prompt"].split("\n")
        who = question.removeprefix("What did ").removesuffix(" do?")
        deeds = [sentence.split(f" {who} ")[1] for sentence in passage.rstrip(".").split(". ")
                 if f" {who} " in sentence]  # fmt: skip
        assert record["answer"] == " " + "; ".join(deeds) and record["items"] == deeds
        assert item_scores(record, record["answer"]) == (1, 1)
        assert item_scores(record, "") == (0, 0)
        assert item_scores(record, deeds[0] + "; slept") == (0.5, 1 / len(set(deeds)))


def test_code_passes_its_tests_and_others_do_not():
    for record in records(CodeInfilling(largest=6)):
        names: dict = {}
        exec(record["prefix"] + record["answer"] + record["suffix"], names)
        for test in record["tests"]:
            exec(test, names)
        shown = record["prompt"].replace("<hole>", record["answer"], 1)
        exec(shown, {})
        with pytest.raises(AssertionError):
            names["solve"] = lambda values: "nothing"
            exec(record["tests"][0], names)
