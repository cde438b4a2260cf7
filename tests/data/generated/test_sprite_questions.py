"""Questions about sprites: answers against the picture as it is read back."""

import re
from collections import Counter

import numpy as np
import pytest

from jaxgen.data.generated.sprite_questions import KINDS, SpriteQuestions
from jaxgen.data.generated.sprites import plural
from jaxgen.errors import ConfigError

SOURCES = [SpriteQuestions(), SpriteQuestions(size=24, grid=3, most=5)]


def records(source, split="train", count=400):
    return source.records_by_index(split).__getitems__(range(count))


def answer_of(question, sprites, canvas):
    """The answer once more, from the words of the question and the sprites that are seen."""
    singular = {plural(shape): shape for shape in canvas.shapes}
    if match := re.fullmatch(r"How many (\w+) shapes are there\?", question):
        return str(sum(s.colour == match[1] for s in sprites))
    if match := re.fullmatch(r"How many (\w+) are there\?", question):
        return str(sum(s.shape == singular[match[1]] for s in sprites))
    if match := re.fullmatch(r"What colour is the (\w+)\?", question):
        (colour,) = [s.colour for s in sprites if s.shape == match[1]]
        return colour
    if match := re.fullmatch(r"Are there more (\w+) than (\w+)\?", question):
        one, other = (sum(s.shape == singular[name] for s in sprites) for name in match.groups())
        return "yes" if one > other else "no"
    match = re.fullmatch(r"Is the (\w+) (left of|right of|above|below) the (\w+)\?", question)
    assert match
    one, other = (
        next(
            divmod(canvas.positions.index(s.position), canvas.grid) for s in sprites if s.shape == n
        )
        for n in (match[1], match[3])
    )
    assert sum(s.shape in (match[1], match[3]) for s in sprites) == 2
    return {
        "left of": "yes" if one[1] < other[1] else "no",
        "right of": "yes" if one[1] > other[1] else "no",
        "above": "yes" if one[0] < other[0] else "no",
        "below": "yes" if one[0] > other[0] else "no",
    }[match[2]]


@pytest.mark.parametrize("source", SOURCES, ids=["2x2", "3x3"])
def test_answers_are_true_of_the_picture(source):
    for record in records(source) + records(source, "heldout"):
        sprites = source.canvas.read(record["image"])
        assert sprites == record["sprites"] and 1 <= len(sprites) <= len(source.canvas.positions)
        answer = answer_of(record["question"], sprites, source.canvas)
        assert record["answer"] == f" {answer}" and record["prompt"] == record["question"] + "\nA:"
    assert {record["kind"] for record in records(source)} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_to_a_question_is_equally_likely(kind):
    source = SpriteQuestions(kinds=(kind,))
    count = 3000
    answers = Counter(record["answer"] for record in records(source, count=count))
    assert len(answers) == round(1 / source.chance)
    error = (source.chance * (1 - source.chance) / count) ** 0.5
    for number in answers.values():
        assert abs(number / count - source.chance) < 5 * error


def test_the_question_alone_does_not_tell_the_answer():
    """For each kind, the commonest answer to each question is about as rare as to all."""
    source = SpriteQuestions()
    asked = {}
    for record in records(source, count=6000):
        words = re.sub(r"left of|right of|above|below", "REL", record["question"])
        asked.setdefault((record["kind"], words), Counter())[record["answer"]] += 1
    for (kind, _), answers in asked.items():
        total = answers.total()
        chance = source.chances[kind]
        bound = chance + 5 * (chance * (1 - chance) / total) ** 0.5
        assert answers.most_common(1)[0][1] / total < bound
    assert source.chance == pytest.approx((1 / 4 + 1 / 8 + 1 / 2 + 1 / 2) / 4)


@pytest.mark.slow
def test_no_held_out_picture_is_asked_about_in_training():
    source = SpriteQuestions()
    keys = [
        {record["key"] for record in records(source, split, 2000)} for split in ("train", "heldout")
    ]
    assert not keys[0] & keys[1] and len(keys[1]) > 500
    draws = np.random.default_rng(0).integers(0, 2**64, (300, 2), dtype=np.uint64)
    pairs = {
        (source.record(row)["key"], int(key))
        for row, key in zip(draws, source.keys(draws), strict=True)
    }
    assert len(pairs) == len({key for key, _ in pairs}) == len({number for _, number in pairs})


def test_a_record_is_a_function_of_its_index():
    one, other = (SpriteQuestions().records_by_index("heldout") for _ in range(2))
    late, early = one.__getitems__([900_000, 5])
    again = other.__getitems__([5])[0]
    assert (again["image"] == early["image"]).all() and again["key"] == early["key"] != late["key"]
    first = records(SpriteQuestions(), "train", 1)[0]
    assert first["prompt"] == "Is the square below the triangle?\nA:" and first["answer"] == " yes"


@pytest.mark.parametrize("settings", [
    {"kinds": ()}, {"kinds": ("shape",)}, {"most": 0}, {"most": 5},
    {"shapes": ("circle", "ring")}, {"grid": 3},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        SpriteQuestions(**settings)
