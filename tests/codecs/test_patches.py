"""Patches by hand, and put together again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codecs.patches import clip_of, patches_of, places_of
from jaxgen.errors import DataError

SIDE = st.integers(1, 3)
THREE = st.tuples(SIDE, SIDE, SIDE)


def test_patches_of_a_picture_by_hand():
    picture = np.arange(4 * 4).reshape(1, 4, 4, 1)
    assert patches_of(picture, (1, 2, 2)).tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]
    ]  # fmt: skip
    assert places_of((1, 2, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


@given(THREE, THREE, st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_a_clip_comes_back_and_patches_lie_where_they_say(grid, size, channels):
    lengths = [count * part for count, part in zip(grid, size, strict=True)]
    clip = np.random.default_rng(0).normal(size=(*lengths, channels))
    patches = patches_of(clip, size)
    np.testing.assert_array_equal(clip_of(patches, grid, size), clip)
    for patch, place in zip(patches, places_of(grid), strict=True):
        part = tuple(slice(at * n, (at + 1) * n) for at, n in zip(place, size, strict=True))
        np.testing.assert_array_equal(patch, clip[part].ravel())


def test_a_clip_that_patches_do_not_cover_is_refused():
    with pytest.raises(DataError, match=r"1x4x5 \(time, height, width\) does not divide"):
        patches_of(np.zeros((1, 4, 5, 3)), (1, 2, 2))
