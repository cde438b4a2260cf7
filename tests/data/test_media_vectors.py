"""Rows of media that a model reads as vectors: arrays in the order of their placeholders."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from jaxgen.codecs.media import Media
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.vectors import ImageVectors, SoundVectors
from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer, Text
from jaxgen.data.generated.sprite_questions import SpriteQuestions
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.data.token_files import read_arrays, read_token_file, write_arrays
from jaxgen.errors import DataError

MEL = MelFrames(rate=1000, window=40, hop=10, bands=8)
CODEC = MultimodalCodec(
    media=(ImageVectors(4, 6, 2, 3), SoundVectors(frames=6, vectors=3, mel=MEL)),
)
IMAGE, AUDIO = CODEC.media_ranges


def picture(number, height=4):
    return np.random.default_rng(number).integers(1, 255, (height, 6, 3), np.uint8)


def sound(number):
    return np.random.default_rng(number).uniform(-1, 1, 40).astype(np.float32)


RECORDS = tuple(
    {"key": f"p{i:02}", "page": [picture(i), "ab", picture(100 + i)], "image": picture(i),
     "sound": sound(i), "rate": 1000, "caption": f"{i:02}"}
    for i in range(30)
)  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))


def task(fields, records=RECORDS, **changes):
    step = Interleave(fields, **changes)
    return Task("pictures", InMemory(records, 0.0), PromptAnswer(), CODEC, preprocessors=(step,))


def opened(*tasks, length=64):
    return Mixture("mixture", tasks).open(batch_size=4, length=length, seed=0)


def check_rows(batch, modality, of_range, expected):
    """Every placeholder run of a row has its array, in order, and nothing is left over."""
    seen = 0
    for row in range(batch.shape[0]):
        tokens = np.asarray(batch.tokens[row])
        starts = np.flatnonzero(tokens == of_range.begin_id)
        for place, start in enumerate(starts):
            run = tokens[start + 1 : start + 1 + of_range.size]
            assert (run == of_range.first_id).all()
            assert tokens[start + 1 + of_range.size] == of_range.end_id
            np.testing.assert_array_equal(batch.media[modality][row, place], expected(row, place))
            seen += 1
        assert not batch.media[modality][row, len(starts) :].any()
        is_there = tokens == of_range.first_id
        assert is_there.sum() == len(starts) * of_range.size
        assert not batch.loss_weights[row, np.flatnonzero(is_there) - 1].any()
    return seen


def captions_of(batch, row):
    """The numbers that the row's captions say, in order."""
    found = []
    for number in range(1, batch.segment_ids[row].max() + 1):
        ids = batch.tokens[row][batch.segment_ids[row] == number]
        found.append(int(CODEC.decode(ids)[-2:]))
    return found


def test_pictures_lie_in_the_order_of_their_placeholders():
    data = opened(task(("page", "caption")))
    for step in range(3):
        batch = data.batch(step)
        numbers = [
            [n + add for n in captions_of(batch, row) for add in (0, 100)] for row in range(4)
        ]
        seen = check_rows(batch, "image", IMAGE, lambda r, p, n=numbers: picture(n[r][p]))
        assert seen == sum(map(len, numbers)) > 4
        assert batch.media["image"].dtype == np.uint8
        assert batch.modality_names == ("text", "image", "audio")


def test_sounds_are_mel_frames_filled_up_with_silence():
    batch = opened(task(("sound", "image", "caption"))).batch(0)
    numbers = [captions_of(batch, row) for row in range(4)]

    def frames(row, place):
        return MEL.encode(np.pad(sound(numbers[row][place]), (0, 20)))

    assert check_rows(batch, "audio", AUDIO, frames) == sum(map(len, numbers))
    assert batch.media["audio"].shape[2:] == (6, 8)


def test_batches_are_a_function_of_the_step_and_come_from_the_store_alike():
    first = opened(task(("page", "caption"))).batch(5)
    again = opened(task(("page", "caption")))  # From the cache.
    steps: Any = again.iterate(5)
    for batch in (again.batch(5), next(steps)):
        np.testing.assert_array_equal(first.tokens, batch.tokens)
        np.testing.assert_array_equal(first.media["image"], batch.media["image"])
    steps.close()


def test_generated_questions_have_their_pictures():
    source = SpriteQuestions(size=12)
    codec = MultimodalCodec(media=(ImageVectors(12, 12, 4, 4),))
    step = Interleave(("image", "prompt", "answer"))
    one = Task("asked", source, PromptAnswer(), codec, preprocessors=(step,))
    batch = opened(one, length=160).batch(0)
    (image,) = codec.media_ranges
    found = 0
    for row in range(4):
        count = int((batch.tokens[row] == image.begin_id).sum())
        pictures = batch.media["image"][row, :count]
        assert pictures.any(axis=(1, 2, 3)).all()
        found += count
    assert found >= 8
    spec = Mixture("mixture", (one,)).batch_spec(batch_size=4, length=160)
    assert spec.media["image"].shape == batch.media["image"].shape


def test_what_cannot_be_read_as_vectors_is_refused():
    with pytest.raises(DataError, match=r"answers with image.*before the answer"):
        opened(task(("caption", "image")))
    with pytest.raises(DataError, match=r"uint8 of \(5, 6, 3\), and image_vectors is for"):
        opened(task(("image", "caption"), ({"image": picture(0, 5), "caption": "x"},)))
    long = ({"sound": np.zeros(61, np.float32), "caption": "x"},)
    with pytest.raises(DataError, match=r"61 samples.*are of 60"):
        opened(task(("sound", "caption"), long))
    split = dataclasses.replace(task(("image", "caption")), features=Text())
    with pytest.raises(DataError, match="documents may be split"):
        opened(split)
    with pytest.raises(DataError, match="no model writes"):
        CODEC.media[0].decode(np.zeros(6, np.int32))


def test_arrays_come_back_from_files(tmp_path):
    media = (Media("image", picture(1)), Media("audio", np.zeros((2, 3), np.float32)))
    found = read_arrays(write_arrays(media))
    assert [one.modality for one in found] == ["image", "audio"]
    for ours, theirs in zip(found, media, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)
    opened(task(("page", "caption")))
    (folder,) = {path.parent for path in tmp_path.rglob("*.media")}
    with open(folder / "tokens.media", "ab") as file:
        file.truncate(10)
    with pytest.raises(DataError, match=r"tokens.media has 10 bytes"):
        read_token_file(folder, "tokens")


def test_turns_of_a_chat_may_have_pictures():
    messages = [
        {"role": "user", "content": ["Look: ", picture(1), " and ", picture(2), " what?"]},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": [picture(3)]},
        {"role": "assistant", "content": "one"},
    ]
    records = ({"messages": messages},)
    one = Task("chat", InMemory(records, 0.0), Chat(), CODEC)
    batch = opened(one, length=128).batch(0)
    pictures = (picture(1), picture(2), picture(3))
    assert check_rows(batch, "image", IMAGE, lambda row, place: pictures[place]) % 3 == 0
    targets = batch.targets[0][batch.loss_weights[0] > 0]
    assert CODEC.decode(targets).startswith("two") and "Look" not in CODEC.decode(targets)
    assert "Look:  and  what?" in CODEC.decode(batch.tokens[0])
    wrong = ({"messages": [{"role": "user", "content": [7]}]},)
    with pytest.raises(DataError, match="list of texts and arrays"):
        opened(dataclasses.replace(one, source=InMemory(wrong, 0.0)), length=128)


def test_texts_without_media_have_no_files_of_them(tmp_path):
    records = ({"page": ["ab"], "caption": "c"},)
    batch = opened(task(("page", "caption"), records)).batch(0)
    assert not list(tmp_path.rglob("*media*"))
    assert not batch.media["image"].any()
