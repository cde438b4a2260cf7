"""Texts and media become the ids of one vocabulary and come back, and know where they lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.media import BEGIN, CODEC, END, FIRST, Greys, Signs, picture

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.media import Media, locate, media_of, media_ranges, modality_names
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.errors import DataError


def test_codes_follow_the_text_between_their_own_begin_and_end():
    ids = CODEC.encode_media(Media("image", picture(0, 1, 2, 3, 0, 1)))
    assert ids.tolist() == [BEGIN, FIRST, FIRST + 1, FIRST + 2, FIRST + 3, FIRST, FIRST + 1, END]
    sound = CODEC.encode_media(Media("audio", np.array([-0.5, 0.5], np.float32)))
    assert sound[1:-1].tolist() == [FIRST + 4, FIRST + 5]
    assert CODEC.vocab_size == FIRST + 4 + 2
    assert modality_names(CODEC) == ("text", "image", "audio")
    assert modality_names(ByteCodec()) == ()


def test_a_token_knows_its_row_and_column():
    image = CODEC.encode_media(Media("image", picture(3, 2, 1, 0, 1, 2)))
    sound = CODEC.encode_media(Media("audio", np.ones(3, np.float32)))
    tokens = np.concatenate([CODEC.encode("ab"), image, image, sound, CODEC.encode("c")])
    modalities, places = locate(tokens, media_ranges(CODEC))
    one = [0, 1, 1, 1, 1, 1, 1, 0]
    assert modalities.tolist() == [0, 0, *one, *one, 0, 2, 2, 2, 0, 0]
    grid = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (0, 1, 2)]
    assert [tuple(place) for place in places[3:9]] == grid
    assert [tuple(place) for place in places[11:17]] == grid
    assert places[19:22].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert not places[modalities == 0].any()


LEVELS = st.lists(st.integers(0, 3), min_size=6, max_size=6)
SIGNS = st.lists(st.sampled_from((-1.0, 1.0)), min_size=1, max_size=5)


@given(st.lists(st.one_of(st.text(min_size=1, max_size=5), LEVELS, SIGNS), max_size=6))
def test_what_is_encoded_comes_back_in_order(parts):
    texts = [part for part in parts if isinstance(part, str)]
    ids, expected = [np.zeros(0, np.int32)], []
    for part in parts:
        if isinstance(part, str):
            ids.append(CODEC.encode(part))
            # Neighbouring texts are one.
            joined = bool(expected) and isinstance(expected[-1], str)
            expected[-1:] = [expected[-1] + part] if joined else [*expected[-1:], part]
        else:
            is_image = isinstance(part[0], int)
            values = picture(*part) if is_image else np.array(part, np.float32)
            ids.append(CODEC.encode_media(media_of(values)))
            expected.append(values)
    ids = np.concatenate(ids)
    found = CODEC.decode_media(ids)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            np.testing.assert_array_equal(one.values, other)
    assert CODEC.decode(ids) == "".join(texts)
    assert CODEC.num_bytes(ids) == len("".join(texts).encode())


def test_the_name_of_a_control_token_in_a_text_is_text():
    assert BEGIN not in CODEC.encode("<|image_begin|>")
    assert CODEC.decode_media(CODEC.encode("<|image_begin|>")) == ["<|image_begin|>"]


def test_a_picture_cut_short_is_left_out_and_a_sound_kept():
    image = CODEC.encode_media(Media("image", picture(0, 1, 2, 3, 0, 1)))
    assert CODEC.decode_media(np.append(CODEC.encode("a"), image[:-2])) == ["a"]
    sound = CODEC.encode_media(Media("audio", np.array([1, -1, 1], np.float32)))
    (cut,) = CODEC.decode_media(sound[:-2])
    assert isinstance(cut, Media) and cut.values.tolist() == [1, -1]


def test_ids_beyond_the_vocabulary_are_no_codes():
    assert CODEC.decode_media([CODEC.vocab_size, CODEC.vocab_size + 7]) == []


def test_a_person_reads_modality_and_code():
    ids = [*CODEC.encode("a b"), BEGIN, FIRST + 3]
    assert CODEC.pieces(ids) == ["a", "␣", "b", "<|image_begin|>", "image:3"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MultimodalCodec(media=(Greys(), Greys(3))), "one codec of each"),
        (lambda: MultimodalCodec(ByteCodec(), (Greys(),)), "no control token '<|image_begin|>'"),
        (
            lambda: MultimodalCodec(media=(Signs(),)).encode_media(Media("image", picture(0, 1))),
            r"a record has image, and .* \['audio'\] alone",
        ),
        (lambda: media_of(np.zeros((4, 4))), "neither a picture"),
        (lambda: media_of(np.zeros((4, 4, 4), np.uint8)), "neither a picture"),
        (lambda: media_of(np.zeros(0, np.float32)), "neither a picture"),
        (lambda: media_of(np.zeros((4, 4, 3), np.uint16)), "neither a picture"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        make()


def test_another_codec_of_media_is_another_tokenizer():
    assert MultimodalCodec().digest == MultimodalCodec().text.digest
    digests = {MultimodalCodec(media=(Greys(rows),)).digest for rows in (2, 3)}
    assert len(digests) == 2
