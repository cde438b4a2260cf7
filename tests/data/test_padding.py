"""Prompts of one length: every position has its own padding, in tasks and for generation alike."""

import dataclasses

import numpy as np
import pytest
from support.media import CODEC, picture

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.features import PromptAnswer
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.padding import pad_text, padded_length
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError

PADDED = dataclasses.replace(CODEC, text=ByteCodec(SpecialTokens(text_pads=6)))
PADS = [PADDED.special_id(f"<|text_pad_{place}|>") for place in range(6)]
RECORDS = tuple(
    {"key": text, "caption": text, "image": picture(0, 1, 2, 3, 0, 1)} for text in ("a", "bcd")
)


def task(length=6, codec=PADDED, **more):
    step = Interleave(("caption", "image"), **more)
    features = PromptAnswer(padded_prompt=length)
    return Task("drawn", InMemory(RECORDS, 0.0), features, codec, preprocessors=(step,))


def test_a_prompt_is_filled_up_by_the_padding_of_each_position():
    first, second = PromptAnswer(padded_prompt=6).encode(
        list(Interleave(("caption", "image"), loss_on_all=True).apply(iter(RECORDS), None)),  # pyright: ignore
        PADDED,
    )
    assert first.ids[:6].tolist() == [ord("a"), *PADS[1:]]
    assert second.ids[:6].tolist() == [*b"bcd", *PADS[3:]]
    begin = PADDED.special_id("<|image_begin|>")
    assert first.ids[6] == second.ids[6] == begin
    assert first.flags is not None and first.flags.tolist() == [1] * 6 + [3] * 8


def test_rows_begin_every_picture_at_one_position_and_weigh_padding_like_the_prompt():
    batch = Mixture("m", (task(),)).open(batch_size=2, length=15, seed=0).batch(0)
    assert (batch.tokens[:, 7] == PADDED.special_id("<|image_begin|>")).all()
    assert not batch.loss_weights[:, :6].any() and batch.loss_weights[:, 6:].all()
    batch = Mixture("m", (task(loss_on_all=True),)).open(batch_size=2, length=15, seed=0).batch(0)
    assert batch.loss_weights.all()


def test_a_dropped_prompt_is_all_padding():
    batch = Mixture("m", (task(dropped_rate=1.0),)).open(batch_size=2, length=15, seed=0).batch(0)
    assert batch.tokens[0, 1:7].tolist() == PADS


@pytest.mark.parametrize(
    ("length", "codec", "message"),
    [(2, PADDED, r"3 tokens.*padded_prompt=2"), (6, CODEC, r"no control token '<\|text_pad_1\|>'")],
)
def test_what_does_not_fit_is_told(length, codec, message):
    with pytest.raises(DataError, match=message):
        Mixture("m", (task(length, codec),)).open(batch_size=2, length=15, seed=0)


def test_generation_pads_as_the_tasks_do_where_they_agree():
    assert pad_text(np.array([1], np.int32), 3, PADDED).tolist() == [1, *PADS[1:3]]
    assert padded_length([task(), task()]) == 6
    assert padded_length([task(), task(0)]) == 6  # The other's prompts are not to be drawn.
    assert padded_length([task(0)]) == padded_length([]) == 0
    with pytest.raises(ConfigError, match=r"padded_prompt=\[6, 9\]"):
        padded_length([task(), task(9)])
