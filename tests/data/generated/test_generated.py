"""Generated answers against independent ones; held-out keys apart."""

import itertools
from collections import Counter

import numpy as np
import pytest

from jaxgen.configuration.registry.generated import registered_generators
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import (
    Addition,
    AssociativeRecall,
    CodeInfilling,
    Copying,
    Dyck,
    EventSummary,
    Expressions,
    InContextRegression,
    Induction,
    ListFunctions,
    ListPrograms,
    LookupChain,
    ModularArithmetic,
    PairOrder,
    PassageQuestions,
    SparseParity,
    ToyTranslation,
    Unscrambling,
    WordCompletion,
)
from jaxgen.data.generated_rows import GeneratedRows
from jaxgen.data.packing import RowShape
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError

EQUAL = [Addition(2), Addition(3), AssociativeRecall(), Copying(), LookupChain(), Induction(),
         ModularArithmetic(), SparseParity(), InContextRegression()]  # fmt: skip
UNEQUAL = [Unscrambling(), Unscrambling(heldout_by="word"), Dyck(), ListFunctions(),
           ListFunctions(function_by="examples"), ToyTranslation(), PassageQuestions(),
           EventSummary(), CodeInfilling(), WordCompletion(), PairOrder(), Expressions(),
           ListPrograms(), ListPrograms("program")]  # fmt: skip
SOURCES = EQUAL + UNEQUAL


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_no_held_out_key_is_trained_on(source):
    keys = [
        {record["key"] for record in source.records_by_index(split).__getitems__(range(1000))}
        for split in ("train", "heldout")
    ]
    assert not keys[0] & keys[1]
    assert len(keys[1]) > 20


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_equal_keys_are_in_one_split(source):
    # Keys as numbers, which decide, and as texts, which are compared above, say the same.
    draws = np.random.default_rng(0).integers(0, 2**64, (300, source.num_draws), dtype=np.uint64)
    draws = np.concatenate([draws, draws])
    texts = [source.record(row)["key"] for row in draws]
    pairs = set(zip(texts, source.keys(draws).tolist(), strict=True))
    assert len(pairs) == len(set(texts)) == len({number for _, number in pairs})


def test_every_source_is_tested():
    assert {type(source) for source in SOURCES} == set(registered_generators().values())


CHANCES = [
    Addition(1), Addition(1, format="scratchpad"), AssociativeRecall(3, 1), Copying(1),
    LookupChain(1, 20), LookupChain(1, 20, 1), Induction(8, 1), ModularArithmetic(6),
    ModularArithmetic(6, "multiply"), ModularArithmetic(6, "subtract"),
    SparseParity(4, 6), Unscrambling(20), WordCompletion(20), Dyck(2, 3),
    ListFunctions(), ListFunctions(functions=("sort", "reverse", "rotate", "unique"), max_length=2),
    InContextRegression(2, 5), ToyTranslation(2, 2, 1), PassageQuestions(),
    EventSummary(2, 2), CodeInfilling(3), PairOrder(), PairOrder(("larger",), 1),
    PairOrder(("smaller", "later"), 3), Expressions(), Expressions(("+", "-"), 2, 20),
    ListPrograms(max_length=2), ListPrograms(num_steps=1), ListPrograms("program", 1),
]  # fmt: skip


@pytest.mark.parametrize("source", CHANCES, ids=lambda source: type(source).__name__)
def test_chance_is_the_rate_of_the_commonest_answer(source):
    count = 4000
    draws = np.random.default_rng(1).integers(0, 2**64, (count, source.num_draws), dtype=np.uint64)
    records = map(source.record, draws)
    answers = Counter(
        record["answer"] if "answer" in record else "".join(a for _, a in record["turns"])
        for record in records
    )
    # The rate of one answer varies by this much; the commonest of several equal ones lies above.
    error = (source.chance * (1 - source.chance) / count) ** 0.5
    assert -4 * error < answers.most_common(1)[0][1] / count - source.chance < 5 * error


@pytest.mark.parametrize("source", UNEQUAL, ids=lambda source: type(source).__name__)
def test_rows_of_unequal_examples_are_full_and_whole(source):
    layout = RowShape(1024)
    rows = GeneratedRows(Task("task", source, PromptAnswer()), layout, 0, "train")
    made = [rows.row(index) for index in range(32)]
    assert 0.84 < np.mean([row["segment_ids"] > 0 for row in made]) <= 1
    again = GeneratedRows(Task("task", source, PromptAnswer()), layout, 0, "train").row(17)
    assert all((again[name] == made[17][name]).all() for name in again)
    starts = sum(int((row["positions"] == 0).sum()) for row in made)
    assert starts > 32
    used = np.mean([row["segment_ids"] > 0 for row in made])
    assert rows.share_used == pytest.approx(used, abs=0.04)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_a_record_is_a_function_of_its_index(source):
    records = source.records_by_index("train")
    together = records.__getitems__([5, 900_000, 5])
    fifth, sixth = (records.__getitems__([index])[0] for index in (5, 6))
    assert together[0] == together[2] == fifth != sixth
    assert [together[1]] == source.records_by_index("train").__getitems__([900_000])


@pytest.mark.parametrize("num_examples", [60, 700])
@pytest.mark.parametrize("kind", [Addition, ListFunctions])
def test_an_epoch_is_followed_by_its_own_instances_in_another_order(kind, num_examples):
    """Equally long examples and unequal ones; fewer than a block and several blocks."""
    task = Task("task", kind(num_examples=num_examples), PromptAnswer())
    rows = GeneratedRows(task, RowShape(128), 3, "train")
    each = rows.rows_per_epoch

    def key(index):
        return tuple(rows.row(index)["tokens"].tolist())

    epochs = [[key(epoch * each + place) for place in range(each)] for epoch in range(3)]
    assert len(set(epochs[0])) > 0.9 * each
    for one, other in itertools.combinations(epochs, 2):
        assert one != other and sorted(one) == sorted(other)
    places = np.random.default_rng(0).permutation(3 * each)[:20]
    assert [key(place) for place in places] == [epochs[p // each][p % each] for p in places]
    instances = sum(int(rows.row(index)["segment_ids"].max()) for index in range(each))
    # A row holds so many on average; an epoch begins and ends within a block of rows.
    assert 0.6 * num_examples < instances < 1.1 * num_examples


def test_sums_are_right():
    for record in Addition(3).records_by_index("heldout").__getitems__(range(500)):
        first, second = record["prompt"].removesuffix("=").split("+")
        assert len(first) == len(second) == 3
        assert record["answer"] == str(int(first) + int(second)).zfill(4)


def test_recall_asks_for_pairs_of_the_prompt():
    for record in (
        AssociativeRecall(num_pairs=6, num_queries=5)
        .records_by_index("train")
        .__getitems__(range(99))
    ):
        shown, question = record["turns"][0][0].split("?")
        pairs = dict(zip(shown[::2], shown[1::2], strict=True))
        asked = [question, *(prompt for prompt, _ in record["turns"][1:])]
        assert len(pairs) == 6 and len(set(asked)) == 5
        for key, (_, answer) in zip(asked, record["turns"], strict=True):
            assert pairs[key] == answer


def test_copies_are_copies():
    for record in Copying(9).records_by_index("train").__getitems__(range(99)):
        assert record["prompt"] == record["answer"] + "=" and len(record["answer"]) == 9


@pytest.mark.parametrize("length", [1, 2])
def test_a_code_always_stands_for_the_same_symbol_in_both_splits(length):
    symbols: dict[str, str] = {}
    for split in ("train", "heldout"):
        for record in LookupChain(8, 64, length).records_by_index(split).__getitems__(range(500)):
            for code, symbol in record["turns"]:
                assert len(code) == length
                assert symbols.setdefault(code, symbol) == symbol
    assert len(symbols) == 64
    assert 15 < len(set(symbols.values())) <= 26


@pytest.mark.parametrize("source", EQUAL[:5], ids=lambda source: type(source).__name__)
def test_rows_of_256_waste_less_than_four_percent(source):
    task = Task("task", source, PromptAnswer())
    row = GeneratedRows(task, RowShape(256), 0, "train").row(0)
    assert np.mean(row["segment_ids"] > 0) > 0.96


def test_settings_that_mean_nothing_are_refused():
    for make in (
        lambda: Addition(0),
        lambda: AssociativeRecall(num_pairs=27),
        lambda: AssociativeRecall(num_pairs=3, num_queries=4),
        lambda: LookupChain(num_codes=1000),
        lambda: LookupChain(num_codes=69, code_length=1),
        lambda: LookupChain(code_length=3),  # pyright: ignore[reportArgumentType]
        lambda: Copying(heldout_fraction=0.0),
        lambda: Addition(format="backwards"),  # pyright: ignore[reportArgumentType]
        lambda: Induction(27),
        lambda: Induction(5, 5),
        lambda: ModularArithmetic(1),
        lambda: SparseParity(num_bits=2),
        lambda: SparseParity(exponent=0.0),
        lambda: SparseParity(4, 6, drawn=(0, 4)),
        lambda: Unscrambling(min_letters=9),
        lambda: Unscrambling(min_letters=50, max_letters=60),
        lambda: WordCompletion(min_letters=50, max_letters=60),
        lambda: Dyck(kinds=5),
        lambda: ListFunctions(("median",)),
        lambda: ListFunctions(max_length=10),
        lambda: InContextRegression(modulus=9),
        lambda: InContextRegression(num_points=1),
        lambda: ToyTranslation(num_nouns=25),
        lambda: PassageQuestions(num_facts=17),
        lambda: EventSummary(max_items=7),
        lambda: CodeInfilling(largest=2),
        lambda: ModularArithmetic(2).records_by_index("heldout").__getitems__([0]),
    ):
        with pytest.raises(ConfigError):
            make()
