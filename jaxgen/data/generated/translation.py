"""Sentences to translate into a made-up language."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.hashing import permutation
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt

NOUNS = (
    "dog", "cat", "bird", "horse", "cow", "duck", "frog", "bear", "king", "queen", "nurse", "cook",
    "guard", "pilot", "girl", "boy", "farmer", "baker", "singer", "painter", "sailor", "driver",
    "teacher", "student",
)  # fmt: skip
VERBS = ("see", "hear", "like", "help", "call", "find", "follow", "know", "need", "want", "thank",
         "trust", "visit", "welcome", "answer", "meet")  # fmt: skip
ADJECTIVES = ("old", "young", "small", "tall", "quiet", "clever", "happy", "tired")
SYLLABLES = tuple(c + v for c in "bdfgklnprstvz" for v in "aeiou")


@dataclasses.dataclass(frozen=True)
class ToyTranslation(GeneratedSource):
    """English to a made-up language with another order of words and agreement.

    English says [adjective] subject, verb, [adjective] object; the other language verb, subject
    [adjective], object [adjective], without articles. Its plurals of nouns and adjectives end in
    "mi", and its verbs in "n" with a plural subject: "the tall painter thanks the old girls=" ->
    "kelu vaki fipu ritami dofumi" (thank, painter, tall, girl, old). Each word has one fixed
    translation. The key is the sentence: held-out ones are new combinations of known words.

    Attributes:
      num_nouns: at most 24.
      num_verbs: at most 16.
      num_adjectives: at most 8; a noun has one of them or none, all equally likely.
      clauses: joined by "and" ("ja").
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the sentences that is held out.
    """

    num_nouns: Annotated[int, Domain(1, len(NOUNS))] = 24
    num_verbs: Annotated[int, Domain(1, len(VERBS))] = 16
    num_adjectives: Annotated[int, Domain(1, len(ADJECTIVES))] = 8
    clauses: PositiveInt = 1
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed sentence: all are equally likely, and none alike."""
        phrases = 2 * self.num_nouns * (1 + self.num_adjectives)
        return float(phrases**2 * self.num_verbs) ** -self.clauses

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: for each clause a verb and two nouns of three draws."""
        return 7 * self.clauses

    def record(self, draws: np.ndarray) -> Record:
        """Returns a sentence and its translation."""
        clauses = [self._clause(row) for row in draws.reshape(self.clauses, 7)]
        english = " and ".join(source for source, _ in clauses)
        answer = " ja ".join(target for _, target in clauses)
        return {"prompt": f"{english}=", "answer": answer, "key": english}

    def _clause(self, draws: np.ndarray) -> tuple[str, str]:
        verb = VERBS[int(draws[0]) % self.num_verbs]
        (subject, subject_words, several), (object_, object_words, _) = (
            self._phrase(part) for part in (draws[1:4], draws[4:7])
        )
        translated = lexicon()[verb] + "n" * several
        return (
            f"{subject} {verb if several else verb + 's'} {object_}",
            f"{translated} {subject_words} {object_words}",
        )

    def _phrase(self, draws: np.ndarray) -> tuple[str, str, bool]:
        noun = NOUNS[int(draws[0]) % self.num_nouns]
        several = bool(draws[1] >> np.uint64(63))
        adjective = ("", *ADJECTIVES)[int(draws[2]) % (1 + self.num_adjectives)]
        words = ["the", *([adjective] if adjective else []), noun + "s" * several]
        translated = [lexicon()[word] + "mi" * several for word in (noun, adjective) if word]
        return " ".join(words), " ".join(translated), several


@functools.cache
def lexicon() -> dict[str, str]:
    """Returns every word's translation: two syllables, no two alike, the same on every machine."""
    pairs = permutation(len(SYLLABLES) ** 2, "toy lexicon")
    words = (SYLLABLES[pair // len(SYLLABLES)] + SYLLABLES[pair % len(SYLLABLES)] for pair in pairs)
    return dict(zip((*NOUNS, *VERBS, *ADJECTIVES), words, strict=False))
