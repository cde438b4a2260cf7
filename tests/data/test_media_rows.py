"""Rows of pictures and sounds alone: a function of the step, in epochs, of one shape."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.base import DataConfig
from jaxgen.data.generated import Sprites, Tones
from jaxgen.data.media_rows import MediaRows
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Ramps:
    """Sounds of ascending samples, of unequal lengths; or grey squares."""

    lengths: tuple[int, ...] = (4, 8, 20)
    rate: int = 8000

    def read(self, split):
        for place, length in enumerate(self.lengths):
            sound = (np.arange(length) / 100 + place / 10).astype(np.float32)
            image = np.full((4, 4, 3), place, np.uint8)
            yield {"sound": sound, "image": image, "rate": self.rate, "key": place}

    def content_digest(self):
        return f"{self.lengths}"


def rows(source: Any = Ramps(), shape=(8,), field="sound", **changes):
    return MediaRows(Task("ramps", source), shape, field, **changes)


def batches(data, steps=6, batch_size=3, **options):
    opened = data.open(batch_size=batch_size, length=1, seed=0, **options)
    return [opened.batch(step).values for step in range(steps)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_is_a_function_of_the_step(workers):
    data = rows(Ramps((4, 8, 20, 30, 9)))
    assert isinstance(data, DataConfig)
    expected = batches(data)
    opened = data.open(batch_size=3, length=1, seed=0)
    for step in (4, 0, 3):
        np.testing.assert_array_equal(opened.batch(step).values, expected[step])
    ahead = opened.iterate(2, num_workers=workers)
    for one in expected[2:5]:
        np.testing.assert_array_equal(next(ahead).values, one)
    part = opened.batch(3, rows=lambda size: [0, size - 1])
    np.testing.assert_array_equal(part.values, expected[3][[0, 2]])


def test_an_epoch_has_every_picture_once():
    found = np.stack(batches(rows(shape=(4, 4, 3), field="image")))[..., 0, 0, 0]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in found.tolist())
    assert len({tuple(epoch) for epoch in found.tolist()}) > 1


def test_long_sounds_are_cut_anywhere_and_short_ones_end_in_silence():
    found = np.concatenate(batches(rows(), steps=60))
    short = np.array([0, 0.01, 0.02, 0.03, 0, 0, 0, 0])
    is_short = found[:, -1] == 0
    np.testing.assert_allclose(found[is_short], np.tile(short, (is_short.sum(), 1)), atol=1e-7)
    long = found[found[:, 0] >= 0.2]
    firsts = np.unique(np.round((long[:, 0] - 0.2) * 100).astype(int))
    assert firsts.min() == 0 and firsts.max() == 12 and len(firsts) > 8
    np.testing.assert_allclose(np.diff(long), 0.01, atol=1e-6)


def test_generated_media_fit_their_specifications():
    for data in (
        rows(Sprites(), (16, 16, 3), "image"),
        rows(Tones(), (2048,), "sound", rate=8000),
    ):
        (batch,) = batches(data, 1, 5)
        spec = data.batch_spec(batch_size=5, length=1).values
        assert batch.shape == spec.shape and batch.dtype == spec.dtype


def test_an_import_gives_them_its_codec():
    """Whatever it is: nothing is read by it, and an exported model has the run's."""
    codec = ByteCodec()
    assert rows().with_codec(codec).codec is codec


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rows(shape=(4, 4), field="image"), "three numbers or one"),
        (lambda: batches(rows(shape=(5, 4, 3), field="image")), r"uint8 \(4, 4, 3\), not uint8"),
        (lambda: batches(rows(field="image")), r"not float32 \(samples,\)"),
        (lambda: batches(rows(field="none")), "none"),
        (lambda: batches(rows(rate=16_000)), "8000 samples a second, and media_rows.rate"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((ConfigError, DataError), match=message):
        make()
