"""Signatures by which nearly equal documents are found.

MinHash (Broder, 1997) signatures of word n-grams are cut into bands; documents that agree in a band
are compared by their whole signatures, and those of at least the threshold are one cluster, whose
first document in the corpus's order is kept. Two documents of Jaccard similarity s become
candidates with probability 1 - (1 - s^rows)^bands. The search itself is in `bands`.
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
      permutations: permutations of a signature; each costs 4 bytes of disk per document.
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
