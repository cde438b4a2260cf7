"""Pairs of spans of which half do not follow one another, for BERT's next-sentence prediction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import opening_ids
from jaxgen.data.denoising import MaskedTokens
from jaxgen.data.draws import Draws
from jaxgen.data.protocols import Sizes
from jaxgen.data.segments import Segment
from jaxgen.domains import UnitFraction, check_domains

FOLLOWS, RANDOM = 1, 2
"""What stands at the first token of a pair; 0 elsewhere."""


@dataclasses.dataclass(frozen=True)
class SentencePairs:
    """Cuts a chunk in two, and puts text of another document in the place of some second halves.

    A "sentence" is any span of contiguous text, as in the paper (1810.04805, 3 and A.2). The input
    is begin, first, end, second, end; tokens of the second are of type 1. Where it is cut, what is
    put in and what is masked is drawn anew in each epoch.

    Attributes:
      random: share of the pairs whose second span is of another document.
      masking: of both spans together.
    """

    random: UnitFraction = 0.5
    masking: MaskedTokens = MaskedTokens()

    has_blocks = False
    makes_pairs = True

    def __post_init__(self):
        check_domains(self, "sentence_pairs")

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to the largest sizes of their segments."""
        tokens, sources = self.masking.sizes(chunks, codec, has_source)
        return tokens + 1, sources

    def segment(
        self,
        ids: np.ndarray,
        codec: Codec,
        draws: Draws,
        has_source: bool,
        other: Callable[[int], np.ndarray] | None = None,
    ) -> Segment:
        """Returns a chunk's segment; a chunk of one token is no pair.

        Args:
          ids: [tokens] of the chunk.
          codec: the codec of the control tokens.
          draws: the random numbers.
          has_source: see `Denoising.segment`.
          other: draws up to so many tokens of another document; None: every second span follows.
        """
        if len(ids) < 2:
            return self.masking.segment(ids, codec, draws, has_source)
        cut = 1 + int(draws.integers(1, len(ids) - 1)[0])
        is_random = bool(draws.uniform(1)[0] < self.random) and other is not None
        if is_random:
            assert other is not None
            ids = np.concatenate([ids[:cut], other(len(ids) - cut)])
        whole = self.masking.segment(ids, codec, draws, has_source)
        between = len(opening_ids(codec)) + cut  # After the begin tokens and the first span.
        tokens, targets = (
            np.insert(x, between, codec.end_id) for x in (whole.tokens, whole.targets)
        )
        return Segment(
            tokens,
            targets,
            np.insert(whole.weights, between, np.float32(0)),
            types=(np.arange(len(tokens)) > between).astype(np.int32),
            pair=RANDOM if is_random else FOLLOWS,
        )
