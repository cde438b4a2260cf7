"""Rows of texts and pictures: whole, in the order asked for, with places and blocks."""

import dataclasses

import numpy as np
import pytest
from support.media import CODEC, FIRST, picture, record

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.media import Media
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.protocols import Context, Epoch
from jaxgen.data.showing import lines
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError

RECORDS = tuple(record(f"p{i:02}", tuple(int(d) for d in f"{i % 4}12301")) for i in range(40))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def task(name="pictures", fields=("caption", "image"), records=RECORDS, **changes):
    step = Interleave(fields, **changes)
    return Task(name, InMemory(records, 0.0), PromptAnswer(), CODEC, preprocessors=(step,))


def rows_of(*tasks, length=32, **options):
    data = Mixture("mixture", tasks, **options).open(batch_size=4, length=length, seed=0)
    return data, data.batch(0)


def segments(batch):
    for row in range(batch.shape[0]):
        for number in range(1, batch.segment_ids[row].max() + 1):
            inside = batch.segment_ids[row] == number
            yield {
                field.name: np.asarray(getattr(batch, field.name))[row][inside]
                for field in dataclasses.fields(batch)
                if isinstance(getattr(batch, field.name), np.ndarray)
            }


def test_pictures_stay_whole_in_packed_rows_and_know_their_places():
    _, batch = rows_of(task())
    grid = [[0, i // 3, i % 3] for i in range(6)]
    found = list(segments(batch))
    assert len(found) > 4
    for one in found:
        text, image = CODEC.decode_media(np.append(one["tokens"], one["targets"][-1]))
        assert str(text).startswith("p") and isinstance(image, Media)
        np.testing.assert_array_equal(one["modalities"], [0, 0, 0, 0, 0] + [1] * 6 + [0])
        np.testing.assert_array_equal(one["places"][5:11], grid)
        assert not one["places"][one["modalities"] == 0].any()
        # The caption is a prompt; the picture and its end are written.
        np.testing.assert_array_equal(one["loss_weights"], [0] * 3 + [1] * 9)
    assert batch.modality_names == ("text", "image", "audio")


def test_a_picture_in_a_prompt_is_of_the_prompts_block():
    _, batch = rows_of(task(fields=("image", "caption")))
    one = next(segments(batch))
    assert len(set(one["block_ids"][one["modalities"] == 1])) == 1
    _, batch = rows_of(task())
    one = next(segments(batch))
    assert len(set(one["block_ids"][one["modalities"] == 1])) == 6


def test_a_page_has_texts_and_pictures_in_one_field():
    page = ({"key": "page", "page": ["ab", picture(0, 1, 2, 3, 0, 1), "cd"], "end": "!"},)
    _, batch = rows_of(task(fields=("page", "end"), records=page))
    one = next(segments(batch))
    first, image, last = CODEC.decode_media(one["tokens"])
    assert (first, last) == ("ab", "cd!") and isinstance(image, Media)
    np.testing.assert_array_equal(image.values, picture(0, 1, 2, 3, 0, 1))


def test_both_orders_are_drawn_anew_each_epoch():
    step = Interleave(("caption", "image"), reversed_rate=0.5)

    def firsts(number):
        context = Context(lambda: iter(()), Epoch(0, "pictures", number))
        records = step.apply(iter(RECORDS), context)
        return ["jaxgen.parts" in r and r["jaxgen.parts"][0].media is None for r in records]

    first, second = firsts(0), firsts(1)
    assert 8 <= sum(first) <= 32 and first != second
    assert firsts(0) == first
    held_out = step.apply(iter(RECORDS), Context(lambda: iter(())))
    assert all(r["jaxgen.parts"][0].text for r in held_out)


def test_what_comes_before_is_dropped_at_a_rate():
    step = Interleave(("caption", "image"), dropped_rate=0.25)
    context = Context(lambda: iter(()), Epoch(0, "pictures", 0))
    counts = [len(r["jaxgen.parts"]) for r in step.apply(iter(RECORDS), context)]
    assert set(counts) == {1, 2} and 3 <= counts.count(1) <= 18


def test_the_share_of_a_modality_is_exact():
    data, batch = rows_of(task(), task("described", ("image", "caption")))
    del data
    of_pictures = (batch.modalities == 1).sum()
    codes = ((batch.tokens >= FIRST) & (batch.tokens < FIRST + 4)).sum()
    assert of_pictures == codes > 0


def test_rows_of_text_alone_have_no_more_than_before():
    texts = tuple({"key": str(i), "prompt": "2+2=", "answer": "4"} for i in range(40))
    plain = Task("sums", InMemory(texts, 0.0), PromptAnswer(), ByteCodec(SpecialTokens()))
    _, batch = rows_of(plain)
    assert batch.modalities is None and batch.places is None and batch.modality_names == ()
    spec = Mixture("m", (plain,)).batch_spec(batch_size=4, length=32)
    assert spec.places is None
    spec = Mixture("m", (task(),)).batch_spec(batch_size=4, length=32)
    assert spec.places.shape == (4, 32, 3)


def test_a_person_sees_where_codes_lie():
    from jaxgen.data.segments import example_segment

    example = task().encode(task().records("train"))[0]
    text = "\n".join(lines(example_segment(example, CODEC, False), CODEC))
    assert "image:3" in text and "0,1,2" in text


@pytest.mark.parametrize(
    "make, kind, message",
    [
        (lambda: rows_of(task(fields=("nothing",))), DataError, "interleave.fields"),
        (
            lambda: rows_of(task(records=({"key": "k", "caption": "a", "image": 3},))),
            DataError,
            "has int, neither text nor an array",
        ),
        (
            lambda: rows_of(dataclasses.replace(task(), features=Text())),
            DataError,
            "give the task the features prompt_answer",
        ),
        (
            lambda: rows_of(task().with_codec(ByteCodec(SpecialTokens()))),
            DataError,
            "give the task a multimodal_codec",
        ),
        (lambda: Interleave(()), ConfigError, "name the fields of a record in order"),
        (lambda: Interleave("ab"), ConfigError, r"write \['ab'\]"),  # pyright: ignore
        (
            lambda: rows_of(task(records=({"key": "k", "caption": "a", "image": []},))),
            DataError,
            "is an empty list",
        ),
    ],
)
def test_what_cannot_be_a_row_is_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_records_that_differ_in_a_pixel_have_keys_of_their_own():
    from jaxgen.data.hashing import record_text

    large = np.zeros((64, 64, 3), np.uint8)
    other = large.copy()
    other[32, 32, 1] = 1
    texts = {record_text({"image": one}) for one in (large, other, large.astype(np.int16))}
    assert len(texts) == 3
    assert record_text({"image": large}) == record_text({"image": large.copy()})


def test_loss_on_prompts_counts_where_parts_are_interleaved():
    both = dataclasses.replace(task(), features=PromptAnswer(loss_on_prompt=True))
    _, batch = rows_of(both)
    assert (next(segments(batch))["loss_weights"] == 1).all()
