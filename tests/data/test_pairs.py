"""Image-text pairs: batches are a function of the step, with captions unlike one another."""

import dataclasses
import json

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.base import DataConfig
from jaxgen.data.generated import Sprites
from jaxgen.data.media_files import DecodeMedia
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.training.loading import map_batch


@dataclasses.dataclass(frozen=True)
class Squares:
    """Grey squares, each with a caption that some share; the last two are held out."""

    captions: tuple[str, ...] = ("a", "b", "c", "d", "e", "f")
    size: int = 4

    def read(self, split):
        chosen = range(len(self.captions)) if split == "train" else range(2)
        for place in chosen:
            image = np.full((self.size, self.size, 3), place, np.uint8)
            yield {"image": image, "caption": self.captions[place], "key": place}

    def content_digest(self):
        return f"{self.captions}"


def pairs(source, **changes):
    return ImageTextPairs(**({"task": Task("squares", source), "image_size": 4} | changes))


def opened(source, batch_size=3, seed=0, **changes):
    return pairs(source, **changes).open(batch_size=batch_size, length=8, seed=seed)


def keys(batch):
    return batch.images[:, 0, 0, 0].tolist()


def captions(batch):
    codec = ByteCodec()
    return [codec.decode(row[:n]) for row, n in zip(batch.tokens, batch.lengths, strict=True)]


def same(batch, other):
    return all(np.array_equal(x, y) for x, y in zip(*map(vars_of, (batch, other)), strict=True))


def vars_of(batch):
    return [batch.images, batch.tokens, batch.lengths]


def test_an_epoch_has_every_record_once_in_an_order_of_its_own():
    data = opened(Squares())
    epochs = [keys(data.batch(2 * e)) + keys(data.batch(2 * e + 1)) for e in range(4)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4, 5] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert keys(opened(Squares(), seed=1).batch(0)) != epochs[0][:3]
    assert data.seen(9) == {
        "shares": {"squares": 1.0}, "epochs": {"squares": 1.5}, "examples": {"squares": 6}
    }  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_is_a_function_of_the_step(workers):
    """Whatever was read before, ahead, by a part of the hosts, or in another process."""
    source = Squares(("a", "a", "b", "b", "c", "d"))
    expected = [opened(source, 4).batch(step) for step in range(5)]
    data = opened(source, 4)
    assert all(same(data.batch(step), expected[step]) for step in (4, 0, 3, 1, 2))
    ahead = data.iterate(2, num_workers=workers)
    assert all(same(next(ahead), one) for one in expected[2:])
    part = data.batch(3, rows=lambda size: [1, size - 1])
    assert same(part, map_batch(lambda _, x: x[[1, 3]], expected[3]))


def test_a_caption_is_repeated_only_where_there_are_no_others():
    source = Squares(("a", "a", "a", "b", "c", "d", "e", "f"))
    for step in range(30):
        assert len(set(captions(opened(source, 5).batch(step)))) == 5
    # Of two captions, no batch of three can be without a repeated one.
    found = captions(opened(Squares(("a", "a", "a", "b")), 3).batch(0))
    assert set(found) == {"a", "b"}


def test_generated_sprites_are_pairs():
    source = Sprites(tags=("colors", "color_attr"))
    data = pairs(source, image_size=16, text="description")
    assert isinstance(data, DataConfig)
    train, heldout = (
        data.open(batch_size=64, length=72, seed=0, split=split) for split in ("train", "heldout")
    )
    spec, batch = data.batch_spec(batch_size=64, length=72), train.batch(7)
    assert same(batch, data.open(batch_size=64, length=72, seed=0).batch(7))
    for array, shape in zip(vars_of(batch), vars_of(spec), strict=True):
        assert array.shape == shape.shape and array.dtype == shape.dtype
    assert len(set(captions(batch))) == 64
    assert not set(captions(batch)) & set(captions(heldout.batch(0)))
    assert "circle" in "".join(captions(batch))


def test_captions_begin_and_end_and_are_cut_to_the_row():
    data = pairs(Squares())
    tokens, lengths = data.tokens(["ab", "abcdefgh"], 6)
    assert tokens.tolist() == [
        [257, 97, 98, 258, 256, 256],
        [257, 97, 98, 99, 100, 258],
    ]
    assert lengths.tolist() == [4, 6]


def test_pictures_of_files_are_decoded_and_made_of_a_size(tmp_path):
    from PIL import Image

    from jaxgen.data.text_files import Jsonl

    random, rows = np.random.default_rng(0), []
    for place in range(4):
        pixels = random.integers(0, 256, (5 + place, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        rows.append({"file": f"{place}.png", "caption": f"noise {place}"})
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    decode = DecodeMedia(images={"image": "file"}, folder=str(tmp_path), height=4, width=4)
    source = Jsonl(str(tmp_path / "all.jsonl"), heldout_fraction=0.0)
    task = Task("noise", source, preprocessors=(decode,))
    batch = ImageTextPairs(task, 4).open(batch_size=4, length=12, seed=0).batch(0)
    assert batch.images.shape == (4, 4, 4, 3)
    assert sorted(captions(batch)) == [f"noise {place}" for place in range(4)]


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (Squares(size=5), {}, r"uint8 \(5, 5, 3\), not uint8 \(4, 4, 3\); decode and resize"),
        (Squares(("a", " ")), {}, "the field 'caption' of a record is blank"),
        (Squares(), {"text": "title"}, "title"),
        (Squares(), {"image": "caption"}, "an image is <class 'str'> None"),
    ],
)
def test_what_is_no_pair_is_told(source, changes, message):
    with pytest.raises(DataError, match=message):
        opened(source, 2, **changes).batch(0)


def test_a_row_without_room_is_refused():
    with pytest.raises(DataError, match="length=2"):
        pairs(Squares()).open(batch_size=2, length=2, seed=0)


def test_classes_are_numbers_and_may_come_twice():
    source = Squares(captions=("cat", "dog", "cat", "dog", "dog", "cat"))
    chosen = pairs(source, classes=("cat", "dog"), distinct=False)
    batch = chosen.open(batch_size=6, length=1, seed=0).batch(0)
    assert batch.tokens.shape == (6, 1) and batch.lengths.tolist() == [1] * 6
    expected = [int(place in (1, 3, 4)) for place in keys(batch)]
    assert batch.tokens[:, 0].tolist() == expected
    with pytest.raises(DataError, match="is none of"):
        pairs(source, classes=("cat", "bird"), distinct=False).open(
            batch_size=6, length=1, seed=0
        ).batch(0)
    with pytest.raises(DataError, match="a class is one token"):
        chosen.open(batch_size=6, length=8, seed=0)
    with pytest.raises(ConfigError, match="distinct=False"):
        pairs(source, classes=("cat", "dog"))


def test_captions_that_need_not_differ_are_those_of_the_epoch():
    source = Squares(captions=("a", "a", "a", "b", "b", "a"))
    batch = opened(source, batch_size=6, distinct=False).batch(0)
    assert sorted(keys(batch)) == list(range(6))
