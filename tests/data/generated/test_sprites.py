"""Pictures of sprites: drawn, read back, described, held out and scored."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.configuration.registry.generated import (
    registered_generators,
    registered_media_generators,
)
from jaxgen.data.generated import MovingSprites, SpriteQuestions, Tones
from jaxgen.data.generated.combinations import held_out_combinations
from jaxgen.data.generated.sprite_canvas import (
    COLOURS,
    PAINTS,
    SHAPES,
    UNKNOWN,
    Sprite,
    SpriteCanvas,
    glyph,
)
from jaxgen.data.generated.sprites import TAGS, Sprites
from jaxgen.data.showing import short
from jaxgen.errors import ConfigError


def records(source, split="heldout", count=300):
    return source.records_by_index(split).__getitems__(range(count))


CANVASES = [SpriteCanvas(), SpriteCanvas(17), SpriteCanvas(24, 3), SpriteCanvas(18, 3)]


@pytest.mark.parametrize("canvas", CANVASES, ids=str)
def test_every_sprite_is_read_as_it_is_drawn(canvas):
    for values in itertools.product(COLOURS, SHAPES, canvas.positions):
        sprite = Sprite(*values)
        assert canvas.read(canvas.draw([sprite])) == [sprite]
    assert canvas.read(canvas.draw([])) == []


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pictures_are_read_under_noise_and_with_few_colours(data):
    canvas = data.draw(st.sampled_from(CANVASES))
    sprites = [
        Sprite(data.draw(st.sampled_from(COLOURS)), data.draw(st.sampled_from(SHAPES)), position)
        for position in canvas.positions
        if data.draw(st.booleans())
    ]
    image = canvas.draw(sprites).astype(np.float32)
    noise = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 25, image.shape)
    assert canvas.read(np.clip(image + noise, 0, 255)) == sprites
    assert canvas.read(np.round(image / 51) * 51) == sprites  # Six levels a channel.


def test_shapes_are_far_apart_and_where_an_eye_expects_them():
    for side in (5, 7, 15):
        for one, other in itertools.combinations(SHAPES, 2):
            assert np.count_nonzero(glyph(one, side) != glyph(other, side)) >= 4
    image = SpriteCanvas().draw([Sprite("blue", "square", "bottom left")])
    rows, columns = np.nonzero(image.any(-1))
    assert rows.min() >= 8 and columns.max() < 8
    assert image[12, 4].tolist() == list(PAINTS["blue"])
    ring, circle = glyph("ring", 7), glyph("circle", 7)
    assert circle[3, 3] and not ring[3, 3] and not glyph("triangle", 7)[0, 0]


def test_what_is_no_sprite_is_read_as_unknown():
    canvas = SpriteCanvas()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    assert {(s.colour, s.shape) for s in canvas.read(noise)} == {(UNKNOWN, UNKNOWN)}
    assert len(canvas.read(np.full((16, 16, 3), np.nan))) == 4
    assert canvas.read(np.full((16, 16, 3), 8)) == []


@pytest.mark.parametrize("source", [
    Sprites(), Sprites(size=24, grid=3, most=9, heldout_fraction=0.3),
    Sprites(heldout_by="colour_shape_position", heldout_fraction=0.2),
    *(Sprites(tags=(tag,)) for tag in TAGS),
], ids=str)  # fmt: skip
def test_held_out_combinations_are_in_held_out_pictures_alone(source):
    trained = [s for record in records(source, "train", 600) for s in record["sprites"]]
    assert not any(map(source.is_heldout, trained))
    for record in records(source):
        assert any(map(source.is_heldout, record["sprites"]))
    if len(source.tags) == 6:
        assert {s.colour for s in trained} == set(COLOURS)
        assert {s.shape for s in trained} == set(SHAPES)
        assert {s.position for s in trained} == set(source.canvas.positions)
        assert {record["tag"] for record in records(source)} == set(TAGS)


def test_as_many_combinations_are_held_out_as_asked_for():
    source = Sprites(heldout_fraction=0.25)
    held_out = [
        c for c in itertools.product(COLOURS, SHAPES) if source.is_heldout(Sprite(*c, "top left"))
    ]
    assert len(held_out) == 12 and source.chance == pytest.approx(1 / 3 / 48)
    larger = held_out_combinations((COLOURS, SHAPES), 0.5, "share")
    assert all(larger[COLOURS.index(c), SHAPES.index(s)] for c, s in held_out)
    for axis in (0, 1):
        assert not larger.all(axis).any()
    with pytest.raises(ConfigError, match="use a smaller share"):
        held_out_combinations((COLOURS, SHAPES), 0.99, "share")


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_text_is_true_of_its_picture(split):
    source = Sprites(size=24, grid=3, most=9)
    for record in records(source, split):
        for text in ("caption", "description"):
            scores = source.score_image(record, record["image"], text)
            assert set(scores.values()) == {1} and "all" in scores
        assert set(source.score_text(record, record["description"]).values()) == {1}
        assert record["count"] == len(record["sprites"]) and record["shape"] in record["caption"]
        assert source.canvas.read(record["image"]) == record["sprites"]


def test_captions_name_what_their_tag_is_about():
    for record in records(Sprites()):
        words = record["caption"].split()
        first = record["shape"]
        expected = {
            "single_object": ["a", first],
            "colors": [words[0], record["colour"], first],
        }
        assert expected.get(record["tag"], words) == words
        if record["tag"] == "counting":
            number = ("one", "two", "three", "four").index(words[0]) + 1
            assert number == record["count"] and words[1].startswith(first)
        if record["tag"] == "position":
            canvas = SpriteCanvas()
            rows, columns = zip(*(
                canvas.place(s.position)
                for s in sorted(record["sprites"], key=lambda s: s.shape != first)
            ), strict=True)  # fmt: skip
            assert {
                "left of": columns[0] < columns[1], "right of": columns[0] > columns[1],
                "above": rows[0] < rows[1], "below": rows[0] > rows[1],
            }[record["relation"]]  # fmt: skip


def test_a_wrong_attribute_is_the_one_that_is_told():
    source = Sprites(tags=("color_attr",))
    record = records(source, count=1)[0]
    first, second = record["sprites"]
    swapped = [first._replace(colour=second.colour), second._replace(colour=first.colour)]
    found = source.score_image(record, source.canvas.draw(swapped))
    assert found == {"count": 1, "shape": 1, "colour": 1, "binding": 0, "all": 0}
    free = next(p for p in source.canvas.positions if p not in (first.position, second.position))
    moved = source.canvas.draw([first, second._replace(position=free)])
    assert source.score_image(record, moved)["all"] == 1
    found = source.score_image(record, moved, "description")
    assert (found["position"], found["colour"], found["all"]) == (0, 1, 0)
    alone = source.score_text(record, first.phrase)
    assert (alone["count"], alone["all"]) == (0, 0)
    assert source.score_text(record, record["description"] + " nonsense")["all"] == 0
    assert source.score_text(record, "")["all"] == 0


def test_relations_are_read_from_the_picture():
    source = Sprites(tags=("position",))
    for record in records(source, count=40):
        one, other = record["sprites"]
        assert source.score_image(record, record["image"])["relation"] == 1
        turned = [one._replace(position=other.position), other._replace(position=one.position)]
        assert source.score_image(record, source.canvas.draw(turned)) == {
            "count": 1, "shape": 1, "relation": 0, "all": 0,
        }  # fmt: skip


@pytest.mark.parametrize("source", [
    Sprites(), Sprites(tags=("counting",)), Sprites(tags=("colors",), heldout_fraction=0.3),
], ids=str)  # fmt: skip
def test_chance_is_the_rate_of_the_commonest_description(source):
    count = 4000
    counts = Counter(r["description"] for r in records(source, count=count))
    error = (source.chance * (1 - source.chance) / count) ** 0.5
    assert -4 * error < counts.most_common(1)[0][1] / count - source.chance < 5 * error


def test_a_record_is_a_function_of_its_index():
    one, other = Sprites().records_by_index("train"), Sprites().records_by_index("train")
    late, early = one.__getitems__([900_000, 3])
    again = other.__getitems__([3])[0]
    assert (again["image"] == early["image"]).all() and again["key"] == early["key"]
    assert late["key"] != early["key"] and len(one) == 1_000_000
    assert records(Sprites(), "heldout", 4)[3]["key"] != early["key"]


def test_the_first_records_stay_as_they_are():
    """The pixels of a picture, and what is held out, must not change by accident."""
    record = records(Sprites(), "train", 1)[0]
    assert record["key"] == (
        "two rings: a red ring at the top right and a red ring at the bottom right"
    )
    assert int(record["image"].astype(int).sum()) == 2 * 290 * int(glyph("ring", 7).sum())


@pytest.mark.parametrize("settings", [
    {"size": 11}, {"grid": 4}, {"grid": 3}, {"colours": ("red",)}, {"shapes": ("circle", "star")},
    {"tags": ()}, {"tags": ("spatial",)}, {"most": 5}, {"most": 1}, {"heldout_fraction": 0.95},
    {"heldout_by": "shape"},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        Sprites(**settings)


def test_every_media_generator_has_a_name_in_gin():
    names = registered_media_generators()
    assert set(names.values()) == {Sprites, SpriteQuestions, MovingSprites, Tones}
    assert not names.keys() & registered_generators().keys()


def test_a_person_is_shown_the_kind_of_an_array():
    record = records(Sprites(), count=1)[0]
    assert '"image": "uint8 [16, 16, 3]"' in short(record)
