"""Unpacked rows are the examples: nothing lost, nothing doubled, targets one ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.hashing import permutation
from jaxgen.data.packing import DocumentRows, ExampleRows, fill_bins
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import PromptAnswer, Task, Text
from jaxgen.data.token_cache import cached_store, store_examples
from jaxgen.errors import DataError

CODEC = ByteCodec()


def text_task():
    return Task("task", InMemory(()), Text())


def segments(row):
    for segment in range(1, row["segment_ids"].max() + 1):
        inside = row["segment_ids"] == segment
        yield {name: values[inside] for name, values in row.items()}


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="ascii"), max_size=30), min_size=1, max_size=12),
    length=st.integers(4, 24),
)
def test_documents_come_back_whole(texts, length):
    store = store_examples(text_task().encode([{"text": text} for text in texts]))
    if store.offsets[-1] < length:
        with pytest.raises(DataError, match="do not fill one row"):
            DocumentRows(text_task(), store, length, seed=0)
        return
    rows = DocumentRows(text_task(), store, length, seed=0)
    inputs, targets = [], []
    for index in range(rows.rows_per_epoch):
        row = rows.row(index)
        assert (row["segment_ids"] > 0).all() and (row["loss_weights"] == 1).all()
        for part in segments(row):
            assert part["positions"].tolist() == list(range(len(part["tokens"])))
            assert part["targets"][:-1].tolist() == part["tokens"][1:].tolist()
        inputs.extend(row["tokens"].tolist())
        targets.extend(row["targets"].tolist())
    lost = int(store.offsets[-1]) - len(inputs)
    assert 0 <= lost < length
    # Split what was read at the begin tokens: each is a document, but the last may be cut.
    found = [[]]
    for token, target in zip(inputs, targets, strict=True):
        found[-1].append(token)
        if target == CODEC.end_id:
            found.append([])
    whole = [CODEC.decode(tokens) for tokens in found[:-1]]
    left = list(texts)
    for text in whole:
        left.remove(text)
    if found[-1]:
        assert any(text.startswith(CODEC.decode(found[-1])) for text in left)


def test_epochs_have_different_orders_and_the_same_documents():
    texts = [f"<{i}>" * 3 for i in range(50)]
    store = store_examples(text_task().encode([{"text": text} for text in texts]))
    rows = DocumentRows(text_task(), store, 10, seed=0)
    epochs = [
        np.concatenate([rows.row(epoch * rows.rows_per_epoch + i)["tokens"] for i in range(40)])
        for epoch in (0, 1)
    ]
    assert not np.array_equal(epochs[0], epochs[1])
    again = DocumentRows(text_task(), store, 10, seed=0).row(rows.rows_per_epoch + 3)["tokens"]
    assert np.array_equal(again, epochs[1][30:40])


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_bins_hold_each_item_once_and_are_well_filled(lengths):
    bins = fill_bins(np.array(lengths), 20)
    assert sorted(item for content in bins for item in content) == list(range(len(lengths)))
    loads = [sum(lengths[item] for item in content) for content in bins]
    assert max(loads) <= 20
    # First-fit decreasing needs at most 11/9 of the best, plus one (Johnson, 1973).
    assert len(bins) <= 11 / 9 * -(-sum(lengths) // 20) + 1 or min(lengths) > 6


def test_examples_are_whole_and_only_answers_are_learnt():
    records = [{"prompt": f"{i}?", "answer": str(i * i)} for i in range(30)]
    task = Task("task", InMemory(()), PromptAnswer())
    rows = ExampleRows(task, store_examples(task.encode(records)), 16, seed=0)
    seen = []
    for index in range(rows.rows_per_epoch):
        for part in segments(rows.row(index)):
            prompt, answer = CODEC.decode(part["tokens"]).split("?")
            learnt = part["targets"][part["loss_weights"] > 0]
            assert CODEC.decode(learnt) == answer and learnt[-1] == CODEC.end_id
            assert int(answer) == int(prompt) ** 2
            seen.append(int(prompt))
    assert sorted(seen) == list(range(30))


def test_loss_on_the_prompt_is_a_choice():
    record = [{"prompt": "ab", "answer": "c"}]
    weights = [
        Task("t", InMemory(()), PromptAnswer(loss_on_prompt=on)).encode(record)[0].weights.tolist()
        for on in (False, True)
    ]
    assert weights == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_an_example_longer_than_a_row_is_named():
    task = Task("long_task", InMemory(()), PromptAnswer())
    store = store_examples(task.encode([{"prompt": "x" * 20, "answer": "y"}]))
    with pytest.raises(DataError, match=r"long_task.*22 tokens.*16"):
        ExampleRows(task, store, 16, seed=0)


def test_a_missing_field_is_named():
    with pytest.raises(DataError, match=r"'text' is missing.*title"):
        text_task().encode([{"title": "a"}])
    with pytest.raises(DataError, match="int, not text"):
        text_task().encode([{"text": 3}])


@given(length=st.integers(1, 300), seed=st.integers(0, 100))
def test_a_permutation_is_one(length, seed):
    assert sorted(permutation(length, seed)) == list(range(length))


def test_the_cache_is_read_the_second_time_and_a_damaged_one_is_named(tmp_path):
    made = []

    def make():
        made.append(1)
        return text_task().encode([{"text": "abc"}])

    first = cached_store(("x",), make, tmp_path)
    second = cached_store(("x",), make, tmp_path)
    assert made == [1]
    assert first.inputs.tolist() == second.inputs.tolist() == [CODEC.begin_id, *b"abc"]
    assert not list(tmp_path.glob(".making-*"))
    next(tmp_path.glob("*/inputs.npy")).write_bytes(b"broken")
    with pytest.raises(DataError, match="damaged"):
        cached_store(("x",), make, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="JAXGEN_CACHE"):
        cached_store(("x",), lambda: text_task().encode([{"text": "a"}]), tmp_path / "file" / "c")
