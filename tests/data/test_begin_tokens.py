"""Texts begin with any number of tokens: in rows of every kind, in chats and in prompts."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.joint import begin_ids, opening_ids
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.chat import Chat
from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.packing import RowShape
from jaxgen.data.parts import ANSWER, IN_LOSS, Example
from jaxgen.data.rows import open_rows
from jaxgen.data.segments import continuation, example_segment
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.generation.continuing import started_with

TEXTS = ("first", "the second one", "3", "and a fourth")
SPECIAL = SpecialTokens()
COUNTS = pytest.mark.parametrize("count", [0, 1, 2, 3])


@dataclasses.dataclass(frozen=True)
class Begun(ByteCodec):
    """Bytes after a number of begin tokens."""

    special: SpecialTokens | None = SPECIAL
    count: int = 2

    @property
    def adds_begin(self) -> bool:
        return self.count > 0

    @property
    def begin_ids(self) -> tuple[int, ...]:
        names = ("<|sentinel_0|>", "<|sentinel_1|>")[: max(self.count - 1, 0)]
        return (self.begin_id, *map(self.special_id, names))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def rows_of(codec, features, shape):
    records = InMemory(tuple({"text": text} for text in TEXTS), 0.0)
    rows = open_rows(Task("task", records, features, codec), shape, 0, "train")
    return [rows.row(index) for index in range(rows.rows_per_epoch)]


@COUNTS
def test_documents_are_read_after_all_of_them_and_none_is_learned(count):
    codec = Begun(count=count)
    begin = begin_ids(codec)
    assert len(begin) == count
    laid = []
    for text in TEXTS:
        read = [*begin, *codec.encode(text), *(() if count else [codec.end_id])]
        weights = [0.0] * (count - 1) + [1.0] * (len(text) + 1) if count else [1.0] * len(text)
        weights += [] if count else [0.0]  # An end token that is read predicts nothing.
        laid.append(list(zip(read, [*read[1:], codec.end_id], weights, strict=True)))
    rows = rows_of(codec, Text(), RowShape(4))
    fields = ("tokens", "targets", "loss_weights")
    found = list(
        zip(*(np.concatenate([row[name] for row in rows]) for name in fields), strict=True)
    )
    orders = [list(itertools.chain(*order)) for order in itertools.permutations(laid)]
    assert len(orders[0]) - 4 < len(found) <= len(orders[0])
    assert any(found == order[: len(found)] for order in orders)


@COUNTS
@pytest.mark.parametrize("denoising", [PrefixLM(), PrefixLM(0.25), SpanCorruption(mode="[X] ")])
def test_denoisings_count_them_in_the_sizes_that_rows_are_packed_by(count, denoising):
    codec = Begun(count=count)
    for has_source in (False, True):
        source_length = 12 if has_source else None
        for row in rows_of(codec, Text(denoising=denoising), RowShape(18, source_length)):
            first = row["tokens"][: len(opening_ids(codec))].tolist()
            expected = list(opening_ids(codec) if has_source else begin_ids(codec))
            assert first[: len(expected)] == expected
            inside = row["segment_ids"] == 1
            is_begin = np.isin(row["targets"][inside], opening_ids(codec)[1:])
            counted = row["loss_weights"][inside]
            if not isinstance(denoising, SpanCorruption):  # Whose sentinels are learned.
                assert not counted[is_begin].any()
            assert counted.any()


@COUNTS
def test_masked_tokens_stand_between_them_and_the_end_token(count):
    codec = Begun(count=count)
    for row in rows_of(codec, Text(denoising=MaskedTokens()), RowShape(20)):
        opening = list(opening_ids(codec))
        assert row["tokens"][: len(opening)].tolist() == opening
        assert not row["loss_weights"][np.isin(row["targets"], [*opening, codec.end_id])].any()


@COUNTS
def test_examples_and_prompts_begin_alike(count):
    codec = Begun(count=count)
    prompt, answer = codec.encode("2+2="), codec.encode("4")
    segment = continuation(prompt, answer, codec, has_source=False)
    before = [*begin_ids(codec), *prompt]
    assert segment.tokens[: len(before)].tolist() == started_with(codec, prompt).tolist() == before
    in_loss = segment.targets[segment.weights > 0].tolist()
    assert in_loss == [*answer, codec.end_id]
    assert segment.blocks is not None and not segment.blocks[: len(before)].std()
    assert started_with(codec, prompt[:0]).tolist() == list(opening_ids(codec))
    decoder = continuation(prompt, answer, codec, has_source=True)
    assert decoder.tokens.tolist() == [*opening_ids(codec), *answer]
    assert decoder.targets[decoder.weights > 0].tolist() == [*answer, codec.end_id]
    flags = np.array([0] * len(prompt) + [ANSWER | IN_LOSS] * len(answer), np.uint8)
    example = Example(np.concatenate([prompt, answer]), flags)
    again = example_segment(example, codec, has_source=False)
    np.testing.assert_array_equal(again.tokens, segment.tokens)


@COUNTS
def test_whole_examples_fill_rows_that_have_room_for_them(count):
    codec = Begun(count=count)
    records = InMemory(({"prompt": "2+2=", "answer": "4"},) * 3, 0.0)
    task = Task("task", records, PromptAnswer("prompt", "answer"), codec)
    size = 5 + len(opening_ids(codec))
    rows = open_rows(task, RowShape(2 * size), 0, "train")
    assert sorted(rows.row(index)["segment_ids"].max() for index in range(2)) == [1, 2]
    with pytest.raises(DataError, match=f"an example of {size} tokens"):
        open_rows(task, RowShape(size - 1), 0, "train")


@COUNTS
def test_a_template_may_write_them_itself(count):
    """And where texts begin with none, what a template begins with is its own (SmolLM's turns)."""
    codec = Begun(count=count)
    names = codec.pieces(opening_ids(codec))
    template = "".join(names) + (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (example,) = Chat(template=template).encode([{"messages": talk}], codec)
    segment = example_segment(example, codec, has_source=False)
    written = [*opening_ids(codec), *codec.encode("HiHello")]
    assert segment.tokens[: len(written)].tolist() == written
