"""Unpacked rows are the examples: nothing lost, nothing doubled, targets one ahead."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.bins import fill_bins
from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.generated import Addition
from jaxgen.data.hashing import permutation
from jaxgen.data.packing import RowShape
from jaxgen.data.rows import open_rows
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import DataError

CODEC = ByteCodec(SpecialTokens())


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def text_task(texts, denoising=None):
    features = Text() if denoising is None else Text(denoising=denoising)
    return Task("task", InMemory(tuple({"text": text} for text in texts), 0.0), features, CODEC)


def segments(row, fields=("tokens", "targets", "loss_weights", "positions")):
    for segment in range(1, row["segment_ids"].max() + 1):
        inside = row["segment_ids"] == segment
        yield {name: row[name][inside] for name in fields}


class Unbegun(ByteCodec):
    """Bytes whose texts have no begin token, as those of GPT-2's tokenizer."""

    adds_begin = False


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(codec="ascii"), min_size=1, max_size=30), min_size=1, max_size=12
    ),
    length=st.integers(4, 24),
)
def test_documents_without_begin_token_are_read_from_their_first_token(texts, length):
    task = dataclasses.replace(text_task(texts), codec=Unbegun())
    total = sum(len(text) + 1 for text in texts)
    if total < length:
        return
    rows = open_rows(task, RowShape(length), 0, "train")
    assert total - length < rows.rows_per_epoch * length <= total
    read = [rows.row(index) for index in range(rows.rows_per_epoch)]
    inputs, targets, weights = (
        np.concatenate([row[name] for row in read]).tolist()
        for name in ("tokens", "targets", "loss_weights")
    )
    end, left = CODEC.end_id, list(texts)
    while inputs:
        size = inputs.index(end) + 1 if end in inputs else len(inputs)
        tokens, inputs = inputs[:size], inputs[size:]
        expected, targets = targets[:size], targets[size:]
        counted, weights = weights[:size], weights[size:]
        assert expected[: size - 1] == tokens[1:]
        assert counted == [0.0 if token == end else 1.0 for token in tokens]
        if tokens[-1] == end:
            left.remove(CODEC.decode(tokens))


def test_an_empty_document_is_named_or_left_out_and_counted(tmp_path, caplog):
    file = tmp_path / "some.jsonl"
    file.write_text('{"text": "one"}\n{"text": ""}\n{"text": "two"}\n')
    for on_error in ("raise", "skip"):
        source = Jsonl(str(file), heldout_fraction=0.0, on_error=on_error)
        task = Task("task", source, Text(), CODEC)
        if on_error == "raise":
            with pytest.raises(DataError, match="'text' is empty"):
                list(task.examples("train"))
        else:
            assert [CODEC.decode(one.ids) for one in task.examples("train")] == ["one", "two"]
            assert "1 unusable record(s) skipped" in caplog.text


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(st.characters(codec="ascii"), min_size=1, max_size=30), min_size=1, max_size=12
    ),
    length=st.integers(4, 24),
)
def test_documents_come_back_whole(texts, length):
    total = sum(len(text) + 1 for text in texts)
    if total < length:
        with pytest.raises(DataError, match="do not fill one row"):
            open_rows(text_task(texts), RowShape(length), 0, "train")
        return
    rows = open_rows(text_task(texts), RowShape(length), 0, "train")
    inputs, targets = [], []
    for index in range(rows.rows_per_epoch):
        row = rows.row(index)
        assert (row["segment_ids"] > 0).all() and (row["loss_weights"] == 1).all()
        for part in segments(row):
            assert part["positions"].tolist() == list(range(len(part["tokens"])))
            assert part["targets"][:-1].tolist() == part["tokens"][1:].tolist()
        inputs.extend(row["tokens"].tolist())
        targets.extend(row["targets"].tolist())
    assert 0 <= total - len(inputs) < length
    # Split what was read at the end tokens: each is a document, but the last may be cut.
    found = [[]]
    for token, target in zip(inputs, targets, strict=True):
        found[-1].append(token)
        if target == CODEC.end_id:
            assert found[-1][0] == CODEC.begin_id or len(found) == 1
            found.append([])
    left = list(texts)
    for tokens in found[:-1]:
        left.remove(CODEC.decode(tokens))
    if found[-1]:
        assert any(text.startswith(CODEC.decode(found[-1])) for text in left)


def test_epochs_have_different_orders_and_the_same_documents():
    task = text_task([f"<{i}>" * 3 for i in range(50)])
    rows = open_rows(task, RowShape(10), 0, "train")
    epochs = [
        np.concatenate([rows.row(epoch * rows.rows_per_epoch + i)["tokens"] for i in range(40)])
        for epoch in (0, 1)
    ]
    assert not np.array_equal(epochs[0], epochs[1])
    again = open_rows(task, RowShape(10), 0, "train").row(rows.rows_per_epoch + 3)["tokens"]
    assert np.array_equal(again, epochs[1][30:40])


def first_fit_decreasing(lengths):
    """Loads of bins of 20, each item put in the first that has room, the longest item first."""
    loads = []
    for length in sorted(lengths, reverse=True):
        place = next((i for i, load in enumerate(loads) if load + length <= 20), len(loads))
        loads[place:] = [sum(loads[place : place + 1]) + length, *loads[place + 1 :]]
    return loads


def fewest_bins(lengths, loads=()):
    """The least number of bins of 20, by trying every one for every item."""
    if not lengths:
        return len(loads)
    first, *rest = lengths
    fits = {load for load in loads if load + first <= 20}
    tried = [fewest_bins(rest, (*loads, first))]
    for load in fits:
        others = list(loads)
        others.remove(load)
        tried.append(fewest_bins(rest, (*others, load + first)))
    return min(tried)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_bins_hold_each_item_once_and_are_those_of_first_fit(lengths):
    bins = fill_bins(np.array(lengths), 20)
    assert sorted(item for content in bins for item in content) == list(range(len(lengths)))
    loads = [sum(lengths[item] for item in content) for content in bins]
    assert loads == first_fit_decreasing(lengths)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=7))
@example(lengths=[1, 10, 11, 11, 11, 11])
def test_few_items_are_in_as_few_bins_as_the_theorem_says(lengths):
    """At most 11/9 of the fewest, plus 6/9 (Dosa, 2007)."""
    assert 9 * len(fill_bins(np.array(lengths), 20)) <= 11 * fewest_bins(lengths) + 6


@pytest.mark.parametrize("source_length", [None, 8])
def test_examples_are_whole_and_only_answers_are_in_the_loss(source_length):
    records = tuple({"prompt": f"{i}?", "answer": str(i * i)} for i in range(30))
    task = Task("task", InMemory(records, 0.0), PromptAnswer())
    rows = open_rows(task, RowShape(16, source_length), 0, "train")
    seen = []
    for index in range(rows.rows_per_epoch):
        row = rows.row(index)
        for number, part in enumerate(segments(row), start=1):
            in_loss = part["targets"][part["loss_weights"] > 0]
            answer = CODEC.decode(in_loss)
            assert in_loss[-1] == CODEC.end_id and part["tokens"][0] == CODEC.begin_id
            if source_length is None:
                prompt, again = CODEC.decode(part["tokens"]).split("?")
                assert again == answer
            else:
                source = row["source_tokens"][row["source_segment_ids"] == number]
                assert source[-1] == CODEC.end_id and (part["loss_weights"] == 1).all()
                prompt = CODEC.decode(source).removesuffix("?")
            assert int(answer) == int(prompt) ** 2
            seen.append(int(prompt))
    assert sorted(seen) == list(range(30))


DENOISINGS = [
    (PrefixLM(), None), (PrefixLM(), 20), (PrefixLM(0.5), 20), (SpanCorruption(), None),
    (SpanCorruption(0.5, 2.0), 20), (MaskedTokens(), None),
]  # fmt: skip


@pytest.mark.parametrize(("denoising", "source_length"), DENOISINGS)
def test_denoisings_see_every_token_of_every_document_in_each_epoch(denoising, source_length):
    texts = [chr(97 + i % 26) * (1 + 7 * i % 50) for i in range(60)]
    rows = open_rows(text_task(texts, denoising), RowShape(30, source_length, True), 0, "train")
    epochs = []
    for epoch in range(2):
        counts = np.zeros(256, int)
        first = epoch * rows.rows_per_epoch
        drawn = [rows.row(first + index) for index in range(rows.rows_per_epoch)]
        for row in drawn:
            if isinstance(denoising, MaskedTokens):
                found = row["targets"][row["segment_ids"] > 0]
            else:
                found = [row["targets"][row["segment_ids"] > 0]]
                found = np.concatenate([*found, row.get("source_tokens", np.zeros(0, int))])
            counts += np.bincount(found[found < 256], minlength=256)
        assert counts.tolist() == np.bincount(list("".join(texts).encode()), minlength=256).tolist()
        epochs.append(drawn)
    assert any((a["tokens"] != b["tokens"]).any() for a, b in zip(*epochs, strict=True))
    assert 0 < rows.share_used <= 1


def test_blocks_begin_anew_in_each_segment():
    rows = open_rows(
        text_task(["abcd" * 3] * 8, PrefixLM(0.25)), RowShape(40, None, True), 0, "train"
    )
    for part in segments(rows.row(0), ("block_ids", "loss_weights")):
        given = part["block_ids"][0]
        assert (part["block_ids"][: given + 1] == given).all()
        assert part["block_ids"][given + 1 :].tolist() == list(range(given + 1, 13))


def test_generated_examples_fill_rows_for_either_make_of_model():
    task = Task("sums", Addition(2), PromptAnswer())
    rows = open_rows(task, RowShape(64), 0, "train")
    assert rows.row(0)["segment_ids"].max() == 6 and rows.share_used == 60 / 64
    divided = open_rows(task, RowShape(16, 28), 0, "train")
    assert divided.row(3)["source_segment_ids"].max() == 4
    assert divided.share_used == (4 * 4 + 4 * 7) / (16 + 28)


def test_loss_on_the_prompt_is_a_choice():
    record = ({"prompt": "ab", "answer": "c"},)
    weights = [
        open_rows(Task("t", InMemory(record, 0.0), PromptAnswer(loss_on_prompt=on)), RowShape(5), 0,
                  "train").row(0)["loss_weights"].tolist()
        for on in (False, True)
    ]  # fmt: skip
    assert weights == [[0, 0, 1, 1, 0], [1, 1, 1, 1, 0]]


def test_examples_that_do_not_fit_are_named():
    record = ({"prompt": "x" * 20, "answer": "y"},)
    task = Task("long_task", InMemory(record, 0.0), PromptAnswer())
    with pytest.raises(DataError, match=r"long_task.*22 tokens.*16.*train\.length"):
        open_rows(task, RowShape(16), 0, "train")
    with pytest.raises(DataError, match=r"long_task.*21 tokens.*16.*train\.source_length"):
        open_rows(task, RowShape(16, 16), 0, "train")
    with pytest.raises(DataError, match=r"task task.*gives an encoder nothing"):
        open_rows(text_task(["abc"]), RowShape(2, 2), 0, "train")
    with pytest.raises(DataError, match="too short for a single token"):
        open_rows(text_task(["abc"], SpanCorruption()), RowShape(2, 2), 0, "train")


def test_a_missing_field_is_named():
    with pytest.raises(DataError, match=r"task task.*'text' is missing.*title"):
        text_task(()).encode([{"title": "a"}])
    with pytest.raises(DataError, match="int, not text"):
        text_task(()).encode([{"text": 3}])


@given(length=st.integers(1, 300), seed=st.integers(0, 100))
def test_a_permutation_is_one(length, seed):
    assert sorted(permutation(length, seed)) == list(range(length))
