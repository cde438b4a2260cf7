"""Generated answers against independent ones; held-out keys apart."""

import numpy as np
import pytest

from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, AssociativeRecall, Copying, LookupChain
from jaxgen.data.generated_rows import GeneratedRows
from jaxgen.data.packing import Layout
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError

SOURCES = [Addition(2), Addition(3), AssociativeRecall(), Copying(), LookupChain()]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_no_held_out_key_is_trained_on(source):
    keys = [
        {record["key"] for record in source.open(split).__getitems__(range(3000))}
        for split in ("train", "heldout")
    ]
    assert not keys[0] & keys[1]
    assert len(keys[1]) > 100


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_a_record_is_a_function_of_its_index(source):
    records = source.open("train")
    together = records.__getitems__([5, 900_000, 5])
    assert together[0] == together[2] == records[5]
    assert together[1] == source.open("train")[900_000]
    assert records[5] != records[6]


def test_sums_are_right():
    for record in Addition(3).open("heldout").__getitems__(range(500)):
        first, second = record["prompt"].removesuffix("=").split("+")
        assert len(first) == len(second) == 3
        assert record["answer"] == str(int(first) + int(second)).zfill(4)


def test_recall_asks_for_what_was_said():
    for record in (
        AssociativeRecall(num_pairs=6, num_queries=5).open("train").__getitems__(range(99))
    ):
        said, question = record["turns"][0][0].split("?")
        pairs = dict(zip(said[::2], said[1::2], strict=True))
        asked = [question, *(prompt for prompt, _ in record["turns"][1:])]
        assert len(pairs) == 6 and len(set(asked)) == 5
        for key, (_, answer) in zip(asked, record["turns"], strict=True):
            assert pairs[key] == answer


def test_copies_are_copies():
    for record in Copying(9).open("train").__getitems__(range(99)):
        assert record["prompt"] == record["answer"] + "=" and len(record["answer"]) == 9


def test_a_code_always_stands_for_the_same_symbol_in_both_splits():
    symbols: dict[str, str] = {}
    for split in ("train", "heldout"):
        for record in LookupChain(num_codes=64).open(split).__getitems__(range(500)):
            for code, symbol in record["turns"]:
                assert symbols.setdefault(code, symbol) == symbol
    assert len(symbols) == 64
    assert 15 < len(set(symbols.values())) <= 26


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_rows_of_256_waste_less_than_four_percent(source):
    task = Task("task", source, PromptAnswer())
    row = GeneratedRows(task, Layout(256), 0, "train").row(0)
    assert np.mean(row["segment_ids"] > 0) > 0.96


def test_settings_that_mean_nothing_are_refused():
    for make in (
        lambda: Addition(0),
        lambda: AssociativeRecall(num_pairs=27),
        lambda: AssociativeRecall(num_pairs=3, num_queries=4),
        lambda: LookupChain(num_codes=1000),
        lambda: Copying(heldout_fraction=0.0),
    ):
        with pytest.raises(ConfigError):
            make()
