"""Masks over places against loops over rows and columns, however attention is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES

from jaxgen.errors import ConfigError
from jaxgen.ops.attention.blockwise import blockwise_attention
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.cudnn import cudnn_refusal
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.grids import GridColumn, GridNeighbourhood, GridRow, SamePicture
from jaxgen.ops.attention.masks import AttentionMask, Causal, Either, Window, attention_side
from jaxgen.ops.attention.ring import ring_attention
from jaxgen.ops.attention.splash import splash_refusal
from jaxgen.ops.vectors import cells_of_runs
from jaxgen.sharding.layout import Layout, using
from jaxgen.sharding.mesh import make_mesh

MASKS = (
    GridRow(4, 4),
    GridColumn(4, 4),
    GridNeighbourhood(4, 4, kernel=3),
    GridNeighbourhood(4, 4, kernel=11),
)

BOTH_WAYS = SamePicture(4, 4)


def layer(predicate):
    """The mask of a causal layer with a predicate over places."""
    is_wider = isinstance(predicate, SamePicture)
    return (Either((Causal(), predicate)),) if is_wider else (Causal(), predicate)


def cells(*runs):
    """[length, 4]: a number is so many texts, a shape (frames, rows, columns) a picture."""
    found = []
    for run in runs:
        if isinstance(run, int):
            found += [(0, 0, 0, 0)] * run
        else:
            found += [(1, *place) for place in np.ndindex(*run)]
    return np.array(found, np.int32)


def side(one, segments=None):
    segments = np.ones(len(one), np.int32) if segments is None else np.asarray(segments)
    positions = [int((segments[:i] == s).sum()) for i, s in enumerate(segments)]
    positions, segments = np.array(positions, np.int32), segments.astype(np.int32)
    positions, segments, one = (jnp.asarray(x)[None] for x in (positions, segments, one))
    return attention_side(positions, segments, None, one)


def seen(predicate, one, **more):
    tokens = side(one, **more)
    return np.asarray(AttentionMask(layer(predicate), tokens, tokens).dense())[0]


def drawn(mask, rows):
    return ["".join(".x"[int(cell)] for cell in mask[row]) for row in rows]


def by_the_words(predicate, one):
    """The mask by loops over places, as figure 11 of 2102.12092 draws it."""
    allowed = np.zeros((len(one), len(one)), bool)
    pictures = np.cumsum((one[:, 0] == 1) & (one[:, 1:] == 0).all(axis=1)) * (one[:, 0] == 1)
    for query, key in np.ndindex(allowed.shape):
        if key > query:
            continue
        if not pictures[query] or pictures[query] != pictures[key]:
            allowed[query, key] = True
            continue
        frame, row, column = one[query, 1:]
        row = row + 4 * frame
        place = tuple(one[key, 1:])
        if isinstance(predicate, GridRow):
            back = [(row * 4 + column - i) for i in range(5)]
        elif isinstance(predicate, GridColumn):
            back = [4 * r + column for r in range(row + 1)]
        else:
            reach = predicate.kernel // 2
            square = np.ndindex(reach + 1, predicate.kernel)
            back = [4 * (row - up) + column + across - reach for up, across in square]
        allowed[query, key] = (place[0] * 4 + place[1]) * 4 + place[2] in back
    return allowed


@pytest.mark.parametrize("predicate", MASKS, ids=repr)
@pytest.mark.parametrize(
    "runs", [(6, (1, 4, 4)), (2, (1, 4, 4), 3, (1, 4, 4), 1), (1, (2, 4, 4))], ids=str
)
def test_codes_see_texts_and_what_the_figure_shows_of_their_picture(predicate, runs):
    one = cells(*runs)
    np.testing.assert_array_equal(seen(predicate, one), by_the_words(predicate, one))


def test_the_published_figures_with_six_texts_and_four_by_four_codes():
    one = cells(6, (1, 4, 4))
    last = [6 + 9, 6 + 15]
    assert drawn(seen(GridRow(4, 4), one), last) == [
        "xxxxxx.....xxxxx......",
        "xxxxxx...........xxxxx",
    ]
    assert drawn(seen(GridColumn(4, 4), one), last) == [
        "xxxxxx.x...x...x......",
        "xxxxxx...x...x...x...x",
    ]
    assert drawn(seen(GridNeighbourhood(4, 4, kernel=3), one), last) == [
        "xxxxxx....xxx.xx......",
        "xxxxxx..........xxx.xx",
    ]


def test_segments_of_a_row_do_not_see_one_another():
    one = cells(2, (1, 4, 4), 2, (1, 4, 4))
    both = seen(GridRow(4, 4), one, segments=[1] * 18 + [2] * 18)
    np.testing.assert_array_equal(both[:18, :18], both[18:, 18:])
    assert not both[18:, :18].any()


@pytest.mark.parametrize("window", [None, 7])
def test_a_picture_sees_itself_both_ways_and_text_is_causal(window):
    one = cells(2, (1, 4, 4), 1, (1, 4, 4), (1, 4, 4), 3)
    segments = np.repeat([1, 2], [40, len(one) - 40])
    picture = np.repeat([0, 1, 0, 2, 3, 4, 0], [2, 16, 1, 16, 5, 11, 3])
    tokens = side(one, segments)
    positions = np.asarray(tokens.positions)[0]
    expected = np.zeros((len(one), len(one)), bool)
    for query, key in np.ndindex(expected.shape):
        behind = positions[query] - positions[key]
        own = picture[query] > 0 and picture[query] == picture[key]
        near = window is None or behind < window
        expected[query, key] = segments[query] == segments[key] and (behind >= 0 or own) and near
    predicates = layer(BOTH_WAYS) if window is None else (*layer(BOTH_WAYS), Window(window))
    found = np.asarray(AttentionMask(predicates, tokens, tokens).dense())[0]
    # The third picture is cut where a segment ends: each part of it sees itself alone.
    np.testing.assert_array_equal(found, expected)


def test_runs_of_placeholders_are_told_where_they_lie():
    is_there = np.array([[0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1], [1] * 12 + [0] * 2], bool)
    with using(Layout()):
        there, found = cells_of_runs(jnp.asarray(is_there), 2, 2, 3)
    np.testing.assert_array_equal(there[..., 0], is_there)
    picture = [(2, 0, *place) for place in np.ndindex(2, 3)]
    np.testing.assert_array_equal(found[0][1:7], picture)
    np.testing.assert_array_equal(found[0][8:14], picture)
    # Two pictures without a token between them are two.
    np.testing.assert_array_equal(found[1][:12], [*picture, *picture])


def test_codes_of_another_medium_are_seen_like_text():
    one = cells(2, (1, 4, 4))
    np.testing.assert_array_equal(seen(GridRow(4, 4, modality=2), one), np.tri(18, dtype=bool))


def test_a_square_without_a_middle_is_refused():
    with pytest.raises(ConfigError, match=r"kernel=4 must be odd"):
        GridNeighbourhood(4, 4, kernel=4)


def operands(length, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return [jax.random.normal(key, (2, 2, length, 8)) for key in keys]


def value_and_gradients(attention, operands, call):
    def loss(operands):
        out = attention(call(*operands))
        return jnp.sum(out * jnp.cos(jnp.arange(out.size).reshape(out.shape))), out

    (_, out), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(operands)
    return jax.device_get((out, gradients))


def two_rows():
    """Rows of two segments over more than a block, [2, 320, ...]."""
    one = np.concatenate([cells(20, (9, 4, 4)), cells(12, (9, 4, 4))])
    segments = [1] * 164 + [2] * 156
    return jax.tree.map(lambda x: jnp.concatenate([x, x]), side(one, segments))


@pytest.mark.parametrize("predicate", (*MASKS[:3], BOTH_WAYS), ids=repr)
def test_blocks_compute_what_whole_rows_do(predicate):
    tokens = two_rows()

    def call(query, key, value):
        mask = AttentionMask(layer(predicate), tokens, tokens, True)
        return AttentionCall(query, key, value, mask)

    given = operands(320)
    found = value_and_gradients(blockwise_attention, given, call)
    expected = value_and_gradients(dense_attention, given, call)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), found, expected)


@pytest.mark.parametrize("predicate", (*MASKS[:3], BOTH_WAYS), ids=repr)
def test_a_ring_computes_what_whole_rows_do(predicate):
    tokens = two_rows()
    given = operands(320)

    def call(tokens, query, key, value):
        mask = AttentionMask(layer(predicate), tokens, tokens, True)
        return AttentionCall(query, key, value, mask)

    expected = value_and_gradients(dense_attention, given, functools.partial(call, tokens))
    mesh = make_mesh(MESHES["sequence"])
    with jax.set_mesh(mesh):

        def laid(x, *spec):
            return jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))

        split = [laid(x, "data", None, "sequence", None) for x in given]
        tokens = jax.tree.map(lambda x: laid(x, "data", "sequence"), tokens)
        found = value_and_gradients(ring_attention, split, functools.partial(call, tokens))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), found, expected)


@pytest.mark.parametrize(("predicate", "name"), [(GridRow(4, 4), "GridRow"), (BOTH_WAYS, "Either")])
def test_kernels_that_know_no_places_pass_them_on(predicate, name):
    tokens = side(cells(112, (1, 4, 4)))
    mask = AttentionMask(layer(predicate), tokens, tokens, True)
    part = jnp.zeros((1, 2, 128, 64), jnp.bfloat16)
    call = AttentionCall(part, part, part, mask)
    assert "more than distances and groups" in str(splash_refusal(call))
    assert name in str(cudnn_refusal(call))
