"""Videos of moving sprites: drawn, read back, held out and scored."""

import itertools
from collections import Counter

import numpy as np
import pytest

from jaxgen.data.generated.moving_sprites import DIRECTIONS, SPEEDS, STEPS, Motion, MovingSprites
from jaxgen.data.generated.sprite_canvas import COLOURS, SHAPES, UNKNOWN
from jaxgen.errors import ConfigError


def records(source, split="heldout", count=200):
    return source.records_by_index(split).__getitems__(range(count))


def test_every_motion_is_read_as_it_is_drawn():
    source = MovingSprites(heldout_by="colour_shape_direction", heldout_fraction=0.5)
    seen = set()
    for record in records(source, "train", 600) + records(source, "heldout", 600):
        motion = source.read_motion(record["video"])
        assert motion == Motion(*(record[name] for name in Motion._fields))
        assert set(source.score_video(record, record["video"]).values()) == {1}
        assert set(source.score_text(record, record["caption"]).values()) == {1}
        seen.add(motion)
    for place in range(3):
        pairs = {(motion[place], motion[place + 1]) for motion in seen}
        names = (COLOURS, SHAPES, DIRECTIONS, tuple(SPEEDS))[place : place + 2]
        assert pairs == set(itertools.product(*names))


def test_the_covered_pixels_move_by_the_direction():
    """Against centres of mass, which know nothing of shapes."""
    for record in records(MovingSprites()):
        covered = record["video"].any(-1)
        centres = np.array([np.argwhere(frame).mean(0) for frame in covered])
        step = np.array(STEPS[record["direction"]]) * SPEEDS[record["speed"]]
        np.testing.assert_allclose(np.diff(centres, axis=0), np.tile(step, (3, 1)), atol=1e-9)
        assert len({int(frame.sum()) for frame in covered}) == 1  # It stays on the canvas.


def test_motions_are_read_under_noise_and_with_few_colours():
    source, rng = MovingSprites(), np.random.default_rng(0)
    for record in records(source, count=60):
        noisy = np.clip(record["video"] + rng.normal(0, 25, record["video"].shape), 0, 255)
        assert source.score_video(record, noisy)["all"] == 1
        few = np.round(record["video"] / 51.0) * 51
        assert source.score_video(record, few)["all"] == 1


def test_a_wrong_attribute_is_the_one_that_is_told():
    source = MovingSprites()
    record = records(source, count=1)[0]
    back = source.score_video(record, record["video"][::-1])
    assert (back["direction"], back["colour"], back["speed"], back["all"]) == (0, 1, 1, 0)
    still = source.score_video(record, np.repeat(record["video"][:1], 4, axis=0))
    assert (still["direction"], still["speed"], still["shape"]) == (0, 0, 1)
    swapped = record["video"][[0, 2, 1, 3]]
    assert source.read_motion(swapped).direction == UNKNOWN
    empty = source.read_motion(np.zeros_like(record["video"]))
    assert empty.colour == empty.shape == UNKNOWN
    noise = np.random.default_rng(0).integers(0, 256, record["video"].shape)
    assert set(source.read_motion(noise)) == {UNKNOWN}
    assert set(source.read_motion(np.full(record["video"].shape, np.nan))) == {UNKNOWN}
    assert source.score_text(record, "a red circle")["all"] == 0
    with pytest.raises(ValueError, match="not of this source"):
        source.read_motion(record["video"][:2])


@pytest.mark.parametrize("by", ["shape_direction", "colour_shape", "colour_shape_direction"])
def test_held_out_combinations_are_in_held_out_videos_alone(by):
    source = MovingSprites(heldout_by=by)
    names = by.split("_")
    train, heldout = (
        {tuple(record[name] for name in names) for record in records(source, split, 1500)}
        for split in ("train", "heldout")
    )
    assert not train & heldout and len(heldout) >= 6
    for place, name in enumerate(names):
        values = {"colour": COLOURS, "shape": SHAPES, "direction": DIRECTIONS}[name]
        assert {one[place] for one in train} == set(values)
    for split in ("train", "heldout"):
        for record in records(source, split, 50):
            motion = Motion(*(record[name] for name in Motion._fields))
            assert source.is_heldout(motion) == (split == "heldout")


@pytest.mark.parametrize("by", ["shape_direction", "colour_shape"])
def test_chance_is_the_rate_of_the_commonest_direction(by):
    source, count = MovingSprites(heldout_by=by), 3000
    answers = Counter(record["answer"] for record in records(source, count=count))
    error = (source.chance * (1 - source.chance) / count) ** 0.5
    assert abs(answers.most_common(1)[0][1] / count - source.chance) < 5 * error
    assert source.chance <= 1 / 6


def test_a_record_is_a_function_of_its_index():
    one, other = (MovingSprites().records_by_index("train") for _ in range(2))
    late, early = one.__getitems__([900_000, 5])
    again = other.__getitems__([5])[0]
    assert (again["video"] == early["video"]).all() and again["key"] == early["key"] != late["key"]


@pytest.mark.parametrize("settings", [
    {"frames": 1}, {"side": 4}, {"frames": 7}, {"directions": ("left",)},
    {"directions": ("left", "around")}, {"colours": ("red", "pink")}, {"heldout_by": "speed"},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        MovingSprites(**settings)
