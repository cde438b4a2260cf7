"""Descriptions are compared attribute by attribute, transcripts by the errors of their words."""

import pytest

from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, Sprites
from jaxgen.data.generated.sprite_canvas import Sprite
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.perception import Descriptions, Transcripts, transcript_errors
from jaxgen.evaluation.summary import summarise


# Edits counted by hand.
@pytest.mark.parametrize(
    ("reference", "text", "errors", "words"),
    [
        ("hello world", "hello world", 0, 2),
        ("hello world", "hello duck", 1, 2),  # a substitution
        ("the cat sat on the mat", "cat sat on mat", 2, 6),  # two deletions
        ("one", "one two three", 2, 1),  # more errors than words
        ("Please hold, while I try.", "please hold while i TRY", 0, 5),  # case, punctuation
        ("don't know", "dont know", 1, 2),
        ("", "a b", 2, 0),
        ("a b", "", 2, 2),
    ],
)
def test_errors_of_words_are_edits(reference, text, errors, words):
    found = transcript_errors(reference, text)
    assert (found["word_errors"], found["words"]) == (errors, words)


def test_characters_are_counted_with_one_space_between_words():
    found = transcript_errors("ab  cd", "ab cx")
    assert (found["character_errors"], found["characters"]) == (1, 5)


def test_a_rate_is_that_of_all_instances_together():
    rows = [
        transcript_errors("a b c d e f g h i", "a b c d e f g h i"),
        transcript_errors("a", "b"),
    ]
    found = summarise(rows, (), ratios=Transcripts.RATIOS)
    assert found["word_error_rate"] == pytest.approx(0.1)  # not the mean of 0 and 1
    low, high = found["word_error_rate_interval"]
    assert 0 <= low < 0.1 < high <= 1
    silent = [transcript_errors("", "a")]
    assert "word_error_rate" not in summarise(silent, (), ratios=Transcripts.RATIOS)


class Reader:
    """A scorer whose model is not asked."""

    has_source, model, batch_size, length, source_length = False, None, 8, 256, None


def test_a_description_is_scored_by_what_it_names(monkeypatch):
    task = Task("described", Sprites(tags=("colors",)), PromptAnswer("caption", "description"))
    records = task.instances(3, 0)
    sprite: Sprite = records[1]["sprites"][0]
    colour = next(one for one in task.source.colours if one != sprite.colour)  # pyright: ignore
    texts = [
        records[0]["description"],
        records[1]["description"].replace(sprite.colour, colour),
        "something else",
    ]
    answers = [task.codec.encode(f"{text}\n") for text in texts]
    monkeypatch.setattr("jaxgen.evaluation.generations.continue_prompts", lambda *a, **k: answers)
    first, second, third = Descriptions().score(Reader(), task, records)  # pyright: ignore
    assert first["every_attribute"] == first["colour"] == first["shape"] == 1
    assert (second["every_attribute"], second["colour"], second["shape"]) == (0, 0, 1)
    assert (third["every_attribute"], third["count"], third["shape"]) == (0, 0, 0)


def test_a_source_that_compares_no_texts_is_refused():
    task = Task("sums", Addition(), PromptAnswer())
    with pytest.raises(DataError, match="Addition has no method score_text"):
        Descriptions().score(Reader(), task, task.instances(1, 0))  # pyright: ignore
