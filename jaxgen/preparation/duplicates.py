"""Duplicates of earlier documents: equal ones, and by MinHash nearly equal ones.

MinHash (Broder, 1997) signatures of word n-grams are cut into bands; documents that agree in a band
are compared by their whole signatures, and those of at least the threshold are one cluster, whose
first document in the corpus's order is kept. Two documents of Jaccard similarity s become
candidates with probability 1 - (1 - s^rows)^bands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import xxhash

from jaxgen.domains import PositiveFraction, PositiveInt, Seed, check_domains
from jaxgen.errors import ConfigError
from jaxgen.preparation.ngrams import WordHasher, ngram_hashes, normalised_words


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """The settings of near duplicates.

    Attributes:
      threshold: Jaccard similarity of the n-gram sets, as the signatures estimate it.
      ngram: words of an n-gram.
      permutations: permutations of a signature; each costs 4 bytes per document.
      bands: number of bands of a signature; must divide the permutations.
      seed: the seed of the permutations.
    """

    threshold: PositiveFraction = 0.8
    ngram: PositiveInt = 5
    permutations: PositiveInt = 128
    bands: PositiveInt = 16
    seed: Seed = 1

    def __post_init__(self):
        check_domains(self, "near_duplicates")
        if self.permutations % self.bands:
            raise ConfigError(
                f"near_duplicates.bands={self.bands} must divide near_duplicates.permutations="
                f"{self.permutations}."
            )

    @property
    def rows(self) -> int:
        """Returns the number of permutations of a band."""
        return self.permutations // self.bands

    def candidate_rate(self, similarity: float) -> float:
        """Returns how often a pair of this similarity is compared."""
        return 1 - (1 - similarity**self.rows) ** self.bands


def signatures(texts: Sequence[str], settings: NearDuplicates) -> np.ndarray:
    """Returns [texts, permutations] uint32; a text shorter than an n-gram is one n-gram.

    A text without words is similar to its equals alone.
    """
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

    hasher = WordHasher()
    sets = []
    for text in texts:
        words = hasher.hashes(normalised_words(text))
        size = min(settings.ngram, max(1, len(words)))
        grams = np.unique(ngram_hashes(words, size))
        whole = np.array([xxhash.xxh3_64_intdigest(text.encode())], np.uint64)
        sets.append(grams if len(grams) else whole)
    offsets = np.cumsum([0, *map(len, sets)]).astype(np.uint64)
    flat = np.concatenate([*sets, np.zeros(0, np.uint64)])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        flat, offsets, settings.permutations, settings.seed
    )
    return np.array(matrix.to_rows(), np.uint32).reshape(len(texts), settings.permutations)


def later_equals(keys: np.ndarray) -> np.ndarray:
    """Maps [documents] hashes to [documents] bool, true where an earlier one is equal."""
    _, first = np.unique(keys, return_index=True)
    is_later = np.ones(len(keys), bool)
    is_later[first] = False
    return is_later


def near_copies(
    matrix: np.ndarray, settings: NearDuplicates, is_out: np.ndarray | None = None
) -> np.ndarray:
    """Maps [documents, permutations] signatures to the first document of each one's cluster.

    Args:
      matrix: the signatures, in the corpus's order.
      settings: the threshold and bands.
      is_out: documents that are removed already and are ignored.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(matrix)
    places = np.arange(count) if is_out is None else np.flatnonzero(~is_out)
    pairs = [np.zeros((0, 2), np.int64)]
    for band in range(settings.bands):
        part = matrix[places, band * settings.rows : (band + 1) * settings.rows]
        _, group = np.unique(part, axis=0, return_inverse=True)
        order = np.argsort(group, kind="stable")
        sorted_group = group[order]
        # Each is compared with the first of its bucket and with the one before it.
        starts = np.flatnonzero(np.diff(sorted_group, prepend=-1))
        first = order[np.repeat(starts, np.diff(np.append(starts, len(order))))]
        before = np.where(np.diff(sorted_group, prepend=-1) == 0, np.roll(order, 1), order)
        for other in (first, before):
            is_pair = other != order
            pairs.append(np.stack([places[other[is_pair]], places[order[is_pair]]], axis=1))
    candidates = np.unique(np.concatenate(pairs), axis=0)
    kept = []
    for start in range(0, len(candidates), 100_000):
        some = candidates[start : start + 100_000]
        agreement = np.mean(matrix[some[:, 0]] == matrix[some[:, 1]], axis=1)
        kept.append(some[agreement >= settings.threshold])
    edges = np.concatenate([np.zeros((0, 2), np.int64), *kept])
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
    _, cluster = connected_components(graph, directed=False)
    _, first_of = np.unique(cluster, return_index=True)
    return first_of[cluster]
