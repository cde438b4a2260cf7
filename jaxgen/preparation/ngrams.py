"""Hashes of a text's word n-grams."""

from __future__ import annotations

import re

import numpy as np
import xxhash

WORD = re.compile(
    # Chinese and Japanese put no spaces between words: there each character counts as one.
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
PLAIN_WORD = re.compile(r"\w+")
"""The same where there are no such characters, twice as fast."""
MULTIPLIER = 0x9E3779B97F4A7C15
_MOST_KEPT = 500_000


class WordHasher:
    """A table of the 64-bit hashes of words; common words are remembered."""

    def __init__(self):
        self._known: dict[str, int] = {}

    def hashes(self, words: list[str]) -> np.ndarray:
        """Returns the hashes of words, [words] uint64."""
        known = self._known
        if len(known) > _MOST_KEPT:
            known.clear()
        for word in set(words).difference(known):
            known[word] = xxhash.xxh3_64_intdigest(word.encode())
        return np.fromiter((known[word] for word in words), np.uint64, len(words))


def normalised_words(text: str) -> list[str]:
    """Returns a text's words in lower case, without marks between them."""
    return (PLAIN_WORD if text.isascii() else WORD).findall(text.lower())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Returns the start and stop, in the text, of each of `normalised_words`."""
    lowered = text.lower()
    pattern = PLAIN_WORD if text.isascii() else WORD
    spans = [match.span() for match in pattern.finditer(lowered)]
    if len(lowered) == len(text):
        return spans
    # A few letters are two in lower case, such as the Turkish dotted I.
    ends = np.cumsum([len(letter.lower()) for letter in text])
    return [
        (int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop)) + 1)
        for start, stop in spans
    ]


def ngram_hashes(words: np.ndarray, size: int) -> np.ndarray:
    """Maps [words] hashes to [words - size + 1] uint64, equal for equal n-grams."""
    if len(words) < size:
        return np.zeros(0, np.uint64)
    result = np.zeros(len(words) - size + 1, np.uint64)
    for place in range(size):
        result = result * np.uint64(MULTIPLIER) + words[place : len(words) - size + 1 + place]
    # The products' low bits are poor where the last words agree.
    return result ^ (result >> np.uint64(32))
