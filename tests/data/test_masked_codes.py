"""Rows of masked codes: which are masked, what they see, and how many by the schedule."""

import dataclasses
import math

import numpy as np
import pytest
from support.media import CODEC, Greys, picture

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.media import Media
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.codecs.vectors import ImageVectors
from jaxgen.data.draws import Draws
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated.sprites import Sprites
from jaxgen.data.interleaving import Interleave
from jaxgen.data.masked_codes import MaskedCodes
from jaxgen.data.mixtures import Mixture
from jaxgen.data.packing import RowShape
from jaxgen.data.rows import open_rows
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError

MASK = CODEC.special_id("<|mask|>")


def example(text="ab", levels=(0, 1, 2, 3, 2, 1), after=""):

    image = CODEC.encode_media(Media("image", picture(*levels)))
    return np.concatenate([CODEC.encode(text), image, CODEC.encode(after)]).astype(np.int32)


def segment(ids, seed=0, **fields):
    return MaskedCodes(**fields).segment(ids, CODEC, Draws("test", seed), has_source=False)


def test_masked_codes_are_targets_in_their_own_places_and_nothing_else_is():
    ids = example()
    found = segment(ids)
    whole = np.concatenate([[CODEC.begin_id], ids, [CODEC.end_id]])
    np.testing.assert_array_equal(found.targets, whole)
    is_masked = found.tokens == MASK
    np.testing.assert_array_equal(found.weights, is_masked)
    np.testing.assert_array_equal(found.tokens[~is_masked], whole[~is_masked])
    assert is_masked.any() and set(np.flatnonzero(is_masked)) <= set(range(4, 10))
    # Masked or not, a code is of its picture and lies where it lies.
    assert found.modalities is not None and found.places is not None
    np.testing.assert_array_equal(found.modalities, [0] * 4 + [1] * 6 + [0] * 2)
    np.testing.assert_array_equal(found.places[4:10, 1:], [divmod(i, 3) for i in range(6)])


def test_the_prompt_is_one_block_the_picture_the_next_and_what_follows_alone():
    found = segment(example())
    assert found.blocks is not None
    assert found.blocks.tolist() == [3] * 4 + [9] * 6 + [10, 11]
    two = np.concatenate([example(), example("c")])
    found = segment(two)
    assert found.blocks is not None
    first = len(example()) + 3  # The begin token, the first example, "c" and a begin token.
    assert set(found.blocks[:first].tolist()) == {first - 1}
    assert not found.weights[:first].any() and found.weights[first : first + 6].any()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_shares_are_those_of_the_schedule_at_uniform_draws(schedule):
    counts = [segment(example(), seed, schedule=schedule).weights.sum() for seed in range(3000)]
    grid = (np.arange(10_000) + 0.5) / 10_000
    share = np.cos(np.pi / 2 * grid) if schedule == "cosine" else 1 - grid
    expected = np.bincount(np.clip(np.ceil(6 * share), 1, 6).astype(int), minlength=7) / 10_000
    found = np.bincount(np.array(counts, int), minlength=7) / 3000
    np.testing.assert_allclose(found, expected, atol=4 * math.sqrt(0.25 / 3000))


def test_rows_are_drawn_anew_each_epoch_and_are_a_function_of_the_step():
    records = tuple(
        {"key": str(i), "caption": "a", "image": picture(0, 1, 2, 3, 0, 1)} for i in range(4)
    )
    features = PromptAnswer(denoising=MaskedCodes())
    step = Interleave(("caption", "image"))
    task = Task("drawn", InMemory(records, 0.0), features, CODEC, preprocessors=(step,))
    assert not task.has_answers and task.has_blocks
    data = Mixture("m", (task,)).open(batch_size=4, length=16, seed=0)
    first, second = data.batch(0), data.batch(1)
    assert (first.tokens != second.tokens).any()
    np.testing.assert_array_equal(data.batch(1).tokens, second.tokens)
    assert first.block_ids is not None and first.places is not None


def test_what_cannot_be_masked_is_told():
    with pytest.raises(DataError, match="no codes to mask"):
        segment(CODEC.encode("abc"))
    seen = MultimodalCodec(media=(ImageVectors(8, 8, 2, 2),))
    image = seen.encode_media(Media("image", np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(DataError, match="no codes to mask"):  # Placeholders of vectors are none.
        MaskedCodes().segment(image, seen, Draws(0), has_source=False)
    with pytest.raises(DataError, match="masked_codes is for a model without an encoder"):
        MaskedCodes().sizes(np.array([4]), CODEC, has_source=True)
    without = dataclasses.replace(CODEC, text=ByteCodec(SpecialTokens(mask=False)))
    ids = np.where(example() >= 260, example() - 1, example())  # The ids of what comes after it.
    with pytest.raises(DataError, match=r"no control token '<\|mask\|>'"):
        MaskedCodes().segment(ids, without, Draws(0), has_source=False)


def test_examples_made_on_the_spot_are_masked_anew_each_epoch():
    codec = MultimodalCodec(media=(Greys(12, 12),))
    features = PromptAnswer(denoising=MaskedCodes())
    steps = (Interleave(("caption", "image")),)
    source = Sprites(size=12, num_examples=40)
    rows = open_rows(
        Task("drawn", source, features, codec, preprocessors=steps),
        RowShape(256, has_blocks=True, has_media=True), 0, "train",
    )  # fmt: skip
    first, again = rows.row(0), rows.row(0)
    np.testing.assert_array_equal(first["tokens"], again["tokens"])
    of_second = [rows.row(rows.rows_per_epoch + i) for i in range(rows.rows_per_epoch)]
    same = [row for row in of_second if (row["targets"] == first["targets"]).all()]
    assert len(same) == 1 and (same[0]["tokens"] != first["tokens"]).any()
