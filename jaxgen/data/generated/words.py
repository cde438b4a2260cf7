"""Words to know: letters to put in order, beginnings to complete."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from typing import Annotated, Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, PositiveInt
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Unscrambling(GeneratedSource):
    """A word whose letters are mixed up: "tonicnuf=" -> "function".

    The words are the commonest of Python's language reference (`pydoc_data.topics`); which ones
    depends on Python's version. No two are made of the same letters, so the answer is exact.

    Attributes:
      num_words: the commonest that are used; fewer where there are not so many.
      min_letters: of a word.
      max_letters: of a word.
      heldout_by: "scramble" holds out letter orders of words that are trained on in other orders;
        "word" holds out words, which a model can then know from other data alone.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the letter orders, or words, that is held out.
    """

    num_words: PositiveInt = 500
    min_letters: Annotated[int, Domain(3)] = 5
    max_letters: PositiveInt = 8
    heldout_by: Literal["scramble", "word"] = "scramble"
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.min_letters > self.max_letters or not self.words:
            raise ConfigError(
                f"Unscrambling asks for words of {self.min_letters} to {self.max_letters} letters; "
                "use min_letters <= max_letters, and lengths that words have."
            )

    @property
    def words(self) -> tuple[str, ...]:
        """Returns the words, the commonest first."""
        return _words(self.min_letters, self.max_letters)[: self.num_words]

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed word: all are equally likely."""
        return 1 / len(self.words)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the word, and ranks of its letters."""
        return 1 + self.max_letters

    def record(self, draws: np.ndarray) -> Record:
        """Returns mixed letters, never in their own order, and the word."""
        word = self.words[int(draws[0]) % len(self.words)]
        letters = "".join(word[place] for place in np.argsort(draws[1 : len(word) + 1]))
        if letters == word:
            letters = letters[1:] + letters[0]
        key = word if self.heldout_by == "word" else letters
        return {"prompt": f"{letters}=", "answer": word, "key": key}


@dataclasses.dataclass(frozen=True)
class WordCompletion(GeneratedSource):
    """The rest of a word: "func" -> "tion". The key is the word: those held out are never asked.

    Held-out words can be known from other text alone, such as the one they come from: the task asks
    for that knowledge, and fine-tuning on it shows the form of the answer.

    The words are those of `Unscrambling`; of any that begin alike only the commonest, so that the
    answer is one.

    Attributes:
      num_words: the commonest that are used; fewer where there are not so many.
      min_letters: of a word, 2 or more; the prompt has the larger half.
      max_letters: of a word.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the words that is held out.
    """

    num_words: PositiveInt = 500
    min_letters: Annotated[int, Domain(2)] = 6
    max_letters: PositiveInt = 12
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.3

    def __post_init__(self):
        super().__post_init__()
        if self.min_letters > self.max_letters or not self.halves:
            raise ConfigError(
                f"WordCompletion asks for words of {self.min_letters} to {self.max_letters} "
                "letters; use min_letters <= max_letters, and lengths that words have."
            )

    @property
    def halves(self) -> tuple[tuple[str, str], ...]:
        """Returns the words as (beginning, rest), the commonest first."""
        return _halves(self.min_letters, self.max_letters)[: self.num_words]

    @property
    def chance(self) -> float:
        """Returns the accuracy of the commonest rest of a word."""
        counts = collections.Counter(rest for _, rest in self.halves)
        return max(counts.values()) / len(self.halves)

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: the word."""
        return 1

    def record(self, draws: np.ndarray) -> Record:
        """Returns the larger half of a word, and the rest."""
        begin, rest = self.halves[int(draws[0]) % len(self.halves)]
        return {"prompt": begin, "answer": rest, "key": begin + rest}


@functools.cache
def _halves(shortest: int, longest: int) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for word in _words(shortest, longest):
        half = (len(word) + 1) // 2
        found.setdefault(word[:half], word[half:])
    return tuple(found.items())


@functools.cache
def _words(shortest: int, longest: int) -> tuple[str, ...]:
    from pydoc_data.topics import topics

    found = re.findall(r"(?<![\w'`.])[a-z]+(?![\w'`.(])", " ".join(topics.values()))
    counts = collections.Counter(
        word for word in found if shortest <= len(word) <= longest and len(set(word)) > 1
    )
    by_letters: dict[str, str] = {}
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        by_letters.setdefault("".join(sorted(word)), word)
    return tuple(by_letters.values())
