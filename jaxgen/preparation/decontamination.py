"""Documents that contain evaluation items, found by shared word n-grams.

As in GPT-3 (2005.14165, appendix C): words in lower case without marks, n-grams of 13. A shorter
item counts as one n-gram of its own length, down to a least number of words. N-grams that many
items share belong to their form, not to their content, and are left out.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.features import field
from jaxgen.data.hashing import hash64
from jaxgen.data.protocols import RecordSource
from jaxgen.data.tasks import Task
from jaxgen.domains import NonNegativeInt, PositiveInt, check_domains
from jaxgen.errors import ConfigError, NoRecordsError
from jaxgen.preparation.ngrams import (
    WordHasher,
    ngram_hashes,
    normalised_words,
    word_spans,
)


@dataclasses.dataclass(frozen=True)
class CutContamination:
    """Cuts what a document shares with an item out of it, as GPT-3 did, and keeps the pieces.

    Attributes:
      margin: characters that go on each side of the shared words.
      shortest: pieces of fewer characters are dropped.
      most_pieces: a document that is cut into more pieces than this is dropped.
    """

    margin: NonNegativeInt = 200
    shortest: PositiveInt = 200
    most_pieces: PositiveInt = 10

    def __post_init__(self):
        check_domains(self, "cut_contamination")

    def pieces(self, text: str, shared: Iterable[tuple[int, int]]) -> list[str]:
        """Returns what is kept of a text.

        Args:
          text: the text.
          shared: starts and stops of shared words, in order of the starts.
        """
        pieces, begin = [], 0
        for start, stop in shared:
            pieces.append(text[begin : max(begin, start - self.margin)])
            begin = max(begin, stop + self.margin)
        pieces = [piece for piece in (*pieces, text[begin:]) if piece]
        if len(pieces) > self.most_pieces:
            return []
        return [piece for piece in pieces if len(piece) >= self.shortest]


@dataclasses.dataclass(frozen=True)
class Decontaminate:
    """The evaluation items that must not be in a corpus.

    Attributes:
      tasks: tasks whose held-out instances are items, prompts and answers together.
      sources: sources whose texts are items, in all splits.
      field: the field of the sources' records that holds the text.
      ngram: number of words that must agree.
      least_words: items with fewer words are ignored, and counted.
      most_items: an n-gram of more items than this belongs to their form; items that have no other
        are ignored, and counted.
      cut: what is cut out of a document that holds an item; None drops it whole.
    """

    tasks: tuple[Task, ...] = ()
    sources: tuple[RecordSource, ...] = ()
    field: str = "text"
    ngram: PositiveInt = 13
    least_words: PositiveInt = 8
    most_items: PositiveInt = 10
    cut: CutContamination | None = None

    def __post_init__(self):
        check_domains(self, "decontaminate")
        if self.least_words > self.ngram:
            raise ConfigError(
                f"decontaminate.least_words={self.least_words} must be at most "
                f"decontaminate.ngram={self.ngram}."
            )
        made = [task.name for task in self.tasks if task.is_indexed]
        if made:
            raise ConfigError(
                f"decontaminate.tasks names {made}, which are made on the spot: their instances "
                "are practically endless and in no corpus."
            )

    def items(self) -> Iterable[tuple[str, str]]:
        """Yields (name, text) of every item."""
        for task in self.tasks:
            for number, example in enumerate(task.examples("heldout")):
                yield f"{task.identity}:{number}", task.codec.decode(example.ids)
        for place, source in enumerate(self.sources):
            number = 0
            for split in ("train", "heldout"):
                try:
                    for record in source.read(split):
                        yield f"source {place}:{number}", field(record, self.field)
                        number += 1
                except NoRecordsError:
                    continue

    def digest(self) -> str:
        """Returns a text that changes with the items."""
        sources = [task.source for task in self.tasks if isinstance(task.source, RecordSource)]
        digests = [source.content_digest() for source in (*sources, *self.sources)]
        return f"{hash64(*digests, *(task.codec.digest for task in self.tasks)):016x}"


@dataclasses.dataclass(frozen=True)
class Index:
    """The n-grams of evaluation items; picklable.

    Attributes:
      sizes: n-gram sizes, and for each the sorted hashes and the items they belong to.
      words: the words of each item.
      names: the name of each item.
      too_short: number of items that were ignored for their few words.
      of_a_form: number of items that were ignored as too many others share all their n-grams.
    """

    sizes: dict[int, tuple[np.ndarray, np.ndarray]]
    words: list[list[str]]
    names: list[str]
    too_short: int
    of_a_form: int

    def matches(self, text: str, hasher: WordHasher) -> list[dict[str, Any]]:
        """Returns one row for each item that the text shares an n-gram with: item, words."""
        words = normalised_words(text)
        found: dict[int, dict[str, Any]] = {}
        for start, size, items in self._candidates(words, hasher):
            shared = words[start : start + size]
            for item in items:
                # Equal hashes are all but equal words; the report must be sure.
                if item not in found and _contains(self.words[item], shared):
                    found[item] = {"item": self.names[item], "words": " ".join(shared)}
        return list(found.values())

    def shared(self, text: str, hasher: WordHasher) -> list[tuple[int, int]]:
        """Returns start and stop of every n-gram of the text that an item has, by their starts."""
        words, spans = normalised_words(text), word_spans(text)
        return sorted(
            (spans[start][0], spans[start + size - 1][1])
            for start, size, items in self._candidates(words, hasher)
            if any(_contains(self.words[item], words[start : start + size]) for item in items)
        )

    def _candidates(
        self, words: list[str], hasher: WordHasher
    ) -> Iterator[tuple[int, int, list[int]]]:
        """Yields the start and size of n-grams whose hash some items have, and these items."""
        hashes = hasher.hashes(words)
        for size, (known, owners) in self.sizes.items():
            grams = ngram_hashes(hashes, size)
            first, end = (np.searchsorted(known, grams, side) for side in ("left", "right"))
            for start in np.flatnonzero(end > first):
                yield int(start), size, owners[first[start] : end[start]].tolist()


def make_index(settings: Decontaminate) -> Index:
    """Returns the index of all items."""
    return index_items(settings.items(), settings.ngram, settings.least_words, settings.most_items)


def index_items(
    items: Iterable[tuple[str, str]], ngram: int = 13, least_words: int = 8, most_items: int = 10
) -> Index:
    """Returns the index of (name, text) items; see `Decontaminate` for the numbers."""
    hasher = WordHasher()
    grams: dict[int, list[np.ndarray]] = {}
    owners: dict[int, list[np.ndarray]] = {}
    all_words, names, too_short = [], [], 0
    for name, text in items:
        words = normalised_words(text)
        size = min(ngram, len(words))
        if size < least_words:
            too_short += 1
            continue
        found = np.unique(ngram_hashes(hasher.hashes(words), size))
        grams.setdefault(size, []).append(found)
        owners.setdefault(size, []).append(np.full(len(found), len(names)))
        all_words.append(words)
        names.append(name)
    sizes, telling = {}, np.zeros(len(names), bool)
    for size, parts in grams.items():
        joined, of = np.concatenate(parts), np.concatenate(owners[size])
        order = np.argsort(joined, kind="stable")
        joined, of = joined[order], of[order]
        _, place, count = np.unique(joined, return_inverse=True, return_counts=True)
        is_own = count[place] <= most_items
        sizes[size] = joined[is_own], of[is_own]
        telling[of[is_own]] = True
    return Index(sizes, all_words, names, too_short, int((~telling).sum()))


def read_index(path: Path) -> Index:
    """Reads an index that was pickled into a preparation's own working folder."""
    return pickle.loads(path.read_bytes())


def _contains(words: Sequence[str], part: Sequence[str]) -> bool:
    size = len(part)
    return any(words[i : i + size] == part for i in range(len(words) - size + 1))
