"""Words rated by ten people each: the lexicon of the package vaderSentiment (Hutto, 2014).

The ratings are MIT-licensed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from jaxgen.data.draws import Draws
from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.data.installed.base import installed, package_folder
from jaxgen.data.protocols import Record, Split
from jaxgen.data.sources import some
from jaxgen.data.storage import stamp_of
from jaxgen.domains import PositiveInt, Seed, UnitFraction, check_domains
from jaxgen.errors import DataError

CURE = 'pip install "jaxgen[ratings]", which is the package vaderSentiment'
RATERS = 10
PROMPT = "The kinder word:"


class RatedWord(NamedTuple):
    """A word and its ratings [raters] int64, from -4 (most negative) to 4."""

    text: str
    ratings: np.ndarray


@dataclasses.dataclass(frozen=True)
class RatedWords:
    """Pairs of words, of which one person found the one more positive than another did the other.

    Each pair is judged as annotators judge: a rater of each word is drawn, and the word with the
    larger rating is preferred; equal ratings are drawn again. A record has prompt, chosen and
    rejected (" word"), preference, the share of all pairs of raters with unlike ratings who agree
    (what a calibrated model says), mean ratings as chosen_score and rejected_score, and
    key.

    Attributes:
      num_examples: pairs for training; of the held-out ones, the share that `heldout_fraction` is.
      split_by: "word" holds words out, whose pairs are of held-out words alone; "pair" holds pairs
        out, of words that are seen in others.
      letters_only: whether emoticons and words with other signs are left out.
      heldout_fraction: of the words, or of the pairs.
      seed: of the draws.
    """

    num_examples: PositiveInt = 20_000
    split_by: Literal["word", "pair"] = "word"
    letters_only: bool = True
    heldout_fraction: UnitFraction = 0.1
    seed: Seed = 0

    key_field: ClassVar[str] = "key"

    def __post_init__(self):
        check_domains(self, "rated_words")

    @property
    def file(self) -> Path:
        """The lexicon; raises DataError if it is not installed."""
        return installed(package_folder("vaderSentiment", CURE) / "vader_lexicon.txt", CURE)

    def content_digest(self) -> str:
        """Returns a text that changes with the settings, and the name, size or time of the file."""
        return f"{hash64(self, self.file, stamp_of(str(self.file))):016x}"

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the pairs of a split."""
        return some(self._pairs(split), split, type(self).__name__)

    def words(self, split: Split) -> list[RatedWord]:
        """Returns the words that the pairs of a split are of."""
        every = [word for word in _read(self.file) if word.text.isalpha() or not self.letters_only]
        if self.split_by == "pair":
            return every
        fraction, heldout = self.heldout_fraction, split == "heldout"
        return [one for one in every if is_heldout(f"vader {one.text}", fraction) == heldout]

    def _pairs(self, split: Split) -> Iterator[Record]:
        words = self.words(split)
        share = self.heldout_fraction if split == "heldout" else 1.0
        count = round(self.num_examples * share)
        if count and len(words) < 2:
            raise DataError(
                f"rated_words has {len(words)} words in its {split} split; set heldout_fraction "
                "between 0 and 1."
            )
        draws = Draws("rated words", self.seed, self.split_by, split)
        while count:
            places, raters = draws.integers(2, len(words)), draws.integers(2, RATERS)
            if places[0] == places[1]:
                continue
            pair = [words[place] for place in places]
            ratings = [int(word.ratings[rater]) for word, rater in zip(pair, raters, strict=True)]
            # By word the splits are apart already; by pair a pair is of one split in either order.
            key = "|".join(sorted(word.text for word in pair))
            is_other = is_heldout(f"vader {key}", self.heldout_fraction) != (split == "heldout")
            if ratings[0] == ratings[1] or (self.split_by == "pair" and is_other):
                continue
            better, worse = pair if ratings[0] > ratings[1] else pair[::-1]
            count -= 1
            yield {
                "prompt": PROMPT, "chosen": f" {better.text}", "rejected": f" {worse.text}",
                "preference": agreement(better.ratings, worse.ratings),
                "chosen_score": float(better.ratings.mean()),
                "rejected_score": float(worse.ratings.mean()),
                "key": f"{better.text}|{worse.text}|{count}",
            }  # fmt: skip


def agreement(better: np.ndarray, worse: np.ndarray) -> float:
    """Returns the share of the pairs of raters with unlike ratings who rate the first higher."""
    difference = better[:, None] - worse
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    return above / (above + below) if above + below else 0.5


def _read(file: Path) -> Iterator[RatedWord]:
    """Yields the lexicon's words: word, mean, deviation and ratings, divided by tabs."""
    for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1):
        fields = line.split("\t")
        try:
            ratings = np.array(json.loads(fields[3]), np.int64)
            if ratings.shape != (RATERS,):
                raise ValueError(f"{ratings.shape} ratings")
        except (ArithmeticError, IndexError, RecursionError, TypeError, ValueError) as error:
            if not line.strip():
                continue
            raise DataError(
                f"{file}:{number}: not a word with {RATERS} ratings ({error}); install the "
                "package again."
            ) from error
        yield RatedWord(fields[0], ratings)
