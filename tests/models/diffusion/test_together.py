"""Encoders of captions beside one another: earlier states, projected vectors, sequences joined."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.captions import caption_rows
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.diffusion.together_config import TogetherConfig
from jaxgen.models.parameters import Frozen, named_parameters, number_of_parameters
from jaxgen.pair_batch import Captions
from jaxgen.sharding.layout import Layout, using

SIZES: dict[str, Any] = {"num_layers": 3, "num_heads": 2, "mlp_dim": 16, "vocab_size": 12}
SMALL = TransformerConfig(**SIZES, embed_dim=16, max_length=6)
LARGE = TransformerConfig(**SIZES, embed_dim=24)
WIDEST = TransformerConfig(**SIZES, embed_dim=48)
FIRST: dict[str, Any] = {"pooled": True, "skipped_layers": 1, "masks_padding": False}
PARTS = (
    CaptionEncoderConfig(SMALL, projection=10, pad_id=2, drop=0.4, **FIRST),
    CaptionEncoderConfig(LARGE, projection=20, pad_id=0, drop=0.3, **FIRST),
)
READER = CaptionEncoderConfig(WIDEST, codec="second", masks_padding=False, drop=0.2)
WHOLE = TogetherConfig((TogetherConfig(PARTS, "width"), READER))
# Begin, words, end, padding.
TOKENS = np.array([[1, 5, 6, 2, 2, 2], [1, 7, 8, 9, 3, 2]], np.int32)
LENGTHS = np.array([4, 6], np.int32)
SECOND = Captions(
    jnp.array([[5, 2, 0, 0], [7, 8, 9, 2]]), jnp.array([2, 4]),
    jnp.array([[2, 0, 0, 0]] * 2), jnp.array([1, 1]),
)  # fmt: skip
PROMPTS = Prompts(jnp.asarray(TOKENS), jnp.asarray(LENGTHS), second=SECOND)
ALL = jnp.ones((3, 2), bool)


@pytest.fixture(autouse=True)
def layout():
    """The layout that the root model has in force."""
    with using(Layout()):
        yield


@pytest.fixture(scope="module")
def whole() -> Any:
    return jax.jit(lambda: WHOLE.build(nnx.Rngs(0), Layout()))()


@jax.jit
def read(module: Any, prompts: Prompts, keep: jax.Array) -> Any:
    return module(prompts, keep)


@pytest.mark.slow
def test_the_sequence_is_the_stream_before_the_last_blocks_and_the_vector_is_of_all():
    config = dataclasses.replace(PARTS[0], skipped_layers=2)
    encoder: Any = config.build(nnx.Rngs(0), Layout())
    told = read(encoder, PROMPTS, ALL[0])
    batch = caption_rows(PROMPTS.tokens, PROMPTS.lengths, masks_padding=False)
    # The first block alone, of a tower that has no other and no norm that counts.
    alone = dataclasses.replace(SMALL, num_layers=1)
    single: Any = alone.build(nnx.Rngs(0), Layout())
    for name, parameter in named_parameters(single):
        own = dict(named_parameters(encoder.model))[name]
        value = own[...][:1] if name.startswith("stack.groups") else own[...]
        parameter.set_value(value)
    expected = single(batch, last=0).states
    np.testing.assert_allclose(told.sequence, expected, atol=1e-5)
    hidden = encoder.model(batch).hidden
    ends = hidden[np.arange(2), LENGTHS - 1]
    np.testing.assert_allclose(told.pooled, ends @ encoder.projection[...], atol=1e-5)


@pytest.mark.slow
def test_padding_is_read_as_the_encoder_s_own(whole):
    """Both read the same rows, one with its end token and one with 0 after a caption."""
    changed = dataclasses.replace(PROMPTS, tokens=PROMPTS.tokens.at[0, 4:].set(7))
    for part in whole.parts[0].parts:
        told, again = read(part, PROMPTS, ALL[0]), read(part, changed, ALL[0])
        np.testing.assert_array_equal(told.sequence, again.sequence)
    plain = dataclasses.replace(PARTS[1], pad_id=None).build(nnx.Rngs(1), Layout())
    told, again = read(plain, PROMPTS, ALL[0]), read(plain, changed, ALL[0])
    assert np.abs(told.sequence - again.sequence).max() > 1e-3


@pytest.mark.slow
def test_sequences_are_joined_along_width_and_length(whole):
    assert (WHOLE.context_dim, WHOLE.pooled_dim, WHOLE.drops) == (48, 30, (0.4, 0.3, 0.2))
    assert (WHOLE.context_length(6, 4), WHOLE.max_length, WHOLE.reads_source) == (10, 6, True)
    told = read(whole, PROMPTS, ALL)
    assert told.sequence.shape == (2, 10, 48) and told.mask is None
    first, second = (read(part, PROMPTS, ALL[0]) for part in whole.parts[0].parts)
    last = read(whole.parts[1], PROMPTS, ALL[0])
    np.testing.assert_array_equal(told.sequence[:, :6, :16], first.sequence)
    np.testing.assert_array_equal(told.sequence[:, :6, 16:40], second.sequence)
    np.testing.assert_array_equal(told.sequence[:, :6, 40:], 0)
    np.testing.assert_array_equal(told.sequence[:, 6:], last.sequence)
    np.testing.assert_array_equal(told.pooled[:, :10], first.pooled)
    np.testing.assert_array_equal(told.pooled[:, 10:], second.pooled)


def test_each_is_dropped_by_itself_and_is_then_an_empty_caption(whole):
    told = read(whole, PROMPTS, ALL)
    tokens, lengths = PROMPTS.empty_captions
    empty = Captions(*[SECOND.empty_tokens, SECOND.empty_lengths] * 2)
    nothing = dataclasses.replace(PROMPTS, tokens=tokens, lengths=lengths, second=empty)
    unread = read(whole, nothing, ALL)
    columns = ((slice(6), slice(0, 16)), (slice(6), slice(16, 40)), (slice(6, None), slice(None)))
    for dropped in range(3):
        found = read(whole, PROMPTS, ALL.at[dropped].set(False))
        for number, (rows, width) in enumerate(columns):
            expected = unread if number == dropped else told
            np.testing.assert_allclose(
                found.sequence[:, rows, width], expected.sequence[:, rows, width], atol=1e-5
            )


@pytest.mark.slow
def test_places_with_a_mask_are_zeros_beside_others():
    parts = [dataclasses.replace(one, masks_padding=True) for one in PARTS]
    both = TogetherConfig(tuple(parts), "width").build(nnx.Rngs(0), Layout())
    told = read(both, PROMPTS, ALL[:2])
    np.testing.assert_array_equal(told.mask, np.arange(6) < LENGTHS[:, None])
    np.testing.assert_array_equal(told.sequence[0, 4:], 0)
    mixed = TogetherConfig((parts[0], PARTS[1]), "width").build(nnx.Rngs(0), Layout())
    assert read(mixed, PROMPTS, ALL[:2]).mask is None


def test_counts_and_costs_are_of_all_parts(whole):
    assert WHOLE.count().total == number_of_parameters(whole)
    assert {type(parameter) for _, parameter in named_parameters(whole)} == {Frozen}
    alone = sum(one.row_flops(6, 4) for one in (*PARTS, READER))
    assert WHOLE.row_flops(6, 4) == alone > READER.row_flops(6, 4) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projection": 8}, "pooled=True alone"),
        ({"skipped_layers": 3}, "leaves none"),
        ({"precomputed": True, "codec": "second"}, "stored by the tokens"),
        ({"precomputed": True, "pooled": True, "skipped_layers": 1}, "stored by the tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CaptionEncoderConfig(SMALL, **changes)


def test_captions_by_a_second_codec_must_be_there():
    encoder = READER.build(nnx.Rngs(0), Layout())
    with pytest.raises(ConfigError, match="second_codec"):
        encoder(dataclasses.replace(PROMPTS, second=None), ALL[0])


def test_a_projection_is_not_left_as_it_began():
    encoder = PARTS[0].build(nnx.Rngs(0), Layout())
    with pytest.raises(ValueError, match="has a projection"):
        encoder.adopt(SMALL.build(nnx.Rngs(1), Layout()))
