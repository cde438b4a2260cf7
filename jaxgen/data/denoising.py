"""Denoisings: a text's rest after a prefix, spans or masked tokens of it, to be predicted.

A denoising is frozen data and a function of a chunk of a document, [tokens] ids, to a `Segment`,
with draws that are new in each epoch. The length of its segments depends on the chunk's length
alone, so that rows can be packed before anything is drawn. See `protocols.Denoising`.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import opening_ids
from jaxgen.data.draws import Draws
from jaxgen.data.protocols import Sizes
from jaxgen.data.segments import Segment, continuation
from jaxgen.domains import Domain, InnerFraction, UnitFraction, check_domains
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """Predicts the rest of a chunk after its prefix, which sees all of itself (1910.10683, 3.2.3).

    Attributes:
      suffix_share: share of a chunk that is predicted (UL2's S-denoiser: 0.25); None cuts anywhere,
        each place equally likely.
      mode: a text before every chunk that tells denoisings apart (UL2, 2205.05131: "[S2S] ").
    """

    suffix_share: InnerFraction | None = None
    mode: str = ""

    has_blocks = True

    def __post_init__(self):
        check_domains(self, "prefix_lm")

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to the largest sizes of their segments."""
        mode, begin = len(codec.encode(self.mode)), len(opening_ids(codec))
        if not has_source:
            return chunks + mode + begin, np.zeros_like(chunks)
        if self.suffix_share is None:
            return chunks + begin, chunks + mode
        suffixes = self._suffix(chunks)
        return suffixes + begin, chunks - suffixes + mode + 1

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns a chunk's segment."""
        if self.suffix_share is None:
            suffix = int(draws.integers(1, max(len(ids) - 1, 1))[0]) + 1
        else:
            suffix = int(self._suffix(np.array(len(ids))))
        cut = len(ids) - suffix
        prefix = np.concatenate([codec.encode(self.mode), ids[:cut]])
        return continuation(prefix, ids[cut:], codec, has_source)

    def _suffix(self, chunks: np.ndarray) -> np.ndarray:
        assert self.suffix_share is not None
        return np.clip(np.round(chunks * self.suffix_share).astype(np.int64), 1, None)


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """Predicts spans that sentinels stand for in the text (T5, 1910.10683, 3.1.4 and figure 2).

    Attributes:
      density: share of a chunk's tokens in spans.
      mean_length: mean tokens of a span.
      sentinel: the names of the sentinels in the tokenizer, with "{}" for their numbers.
      mode: a text before every chunk that tells denoisings apart (UL2, 2205.05131: "[NLU] ").
    """

    density: InnerFraction = 0.15
    mean_length: Annotated[float, Domain(1)] = 3.0
    sentinel: str = "<|sentinel_{}|>"
    mode: str = ""

    has_blocks = True

    def __post_init__(self):
        check_domains(self, "span_corruption")

    def counts(self, chunks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps [chunks] lengths to the numbers of tokens in spans, and of spans."""
        chunks = np.asarray(chunks, np.int64)
        noise = np.clip(np.round(chunks * self.density).astype(np.int64), 1, None)
        noise = np.minimum(noise, np.maximum(chunks - 1, 1))
        spans = np.clip(np.round(noise / self.mean_length).astype(np.int64), 1, None)
        return noise, np.minimum(spans, np.maximum(chunks - noise, 1))

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to the sizes of their segments."""
        noise, spans = self.counts(chunks)
        mode, begin = len(codec.encode(self.mode)), len(opening_ids(codec))
        inputs, targets = chunks - noise + spans + mode, noise + spans
        if has_source:
            return targets + begin, inputs + 1
        return inputs + targets + begin, np.zeros_like(chunks)

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns a chunk's segment."""
        is_noise = self.noise(len(ids), draws)
        inputs, targets = replace_spans(ids, is_noise, self.sentinels(ids, is_noise, codec))
        inputs = np.concatenate([codec.encode(self.mode), inputs])
        return continuation(inputs, targets, codec, has_source)

    def noise(self, length: int, draws: Draws) -> np.ndarray:
        """Draws [length] bool, true for tokens in spans; the first is not, the last is."""
        if length == 1:
            return np.ones(1, bool)
        noise, spans = (int(count) for count in self.counts(np.array(length)))
        in_spans = _divide(noise, spans, draws)
        between = _divide(length - noise, spans, draws)
        lengths = np.stack([between, in_spans], axis=1).reshape(-1)
        return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)

    def sentinels(self, ids: np.ndarray, is_noise: np.ndarray, codec: Codec) -> np.ndarray:
        """Returns the sentinels of the spans.

        Raises:
          DataError: if the tokenizer has too few, or the text holds some already.
        """
        count = int(np.sum(np.diff(is_noise.astype(np.int8), prepend=0) == 1))
        names = [self.sentinel.format(number) for number in range(count)]
        return np.array([codec.special_id(name) for name in names], np.int32)


def replace_spans(
    ids: np.ndarray, is_noise: np.ndarray, sentinels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a text with sentinels for its spans, and the spans, each after its sentinel.

    Where the text goes on after the last span, one more sentinel, if there is one, ends the spans
    (figure 2 of 1910.10683).
    """
    begins = np.flatnonzero(np.diff(is_noise.astype(np.int8), prepend=0) == 1)
    inputs = np.where(is_noise, 0, ids)
    inputs[begins] = sentinels[: len(begins)]
    keep = ~is_noise
    keep[begins] = True
    number = np.cumsum(np.diff(is_noise.astype(np.int8), prepend=0) == 1)[is_noise] - 1
    targets = np.insert(
        ids[is_noise], np.searchsorted(number, np.arange(len(begins))), sentinels[: len(begins)]
    )
    if len(sentinels) > len(begins) and not is_noise[-1]:
        targets = np.append(targets, sentinels[len(begins)])
    return inputs[keep], targets


@dataclasses.dataclass(frozen=True)
class MaskedTokens:
    """Predicts some tokens, most of them masked, from all the others (BERT, 1810.04805, 3.1).

    Attributes:
      rate: share of the tokens that are predicted.
      masked: share of these that the mask token replaces.
      random: share of these that another token replaces; the rest stay themselves.
      mask: the mask token's name in the tokenizer.
    """

    rate: InnerFraction = 0.15
    masked: UnitFraction = 0.8
    random: UnitFraction = 0.1
    mask: str = "<|mask|>"

    has_blocks = False

    def __post_init__(self):
        check_domains(self, "masked_tokens")
        if self.masked + self.random > 1:
            raise ConfigError(
                f"masked_tokens.masked={self.masked} and masked_tokens.random={self.random} must "
                "add up to no more than 1."
            )

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to sizes; begin and end tokens stand around each chunk."""
        if has_source:
            raise DataError(
                "masked_tokens is for a model without an encoder beside it; use span_corruption, "
                "or leave out train.source_length."
            )
        return chunks + len(opening_ids(codec)) + 1, np.zeros_like(chunks)

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns a chunk's segment, targets in their own places."""
        del has_source
        count = max(1, round(len(ids) * self.rate))
        is_target = draws.chosen(len(ids), count)
        fate = draws.uniform(len(ids))
        others = codec.plain_ids[draws.integers(len(ids), len(codec.plain_ids))]
        read = np.where(is_target & (fate < self.masked + self.random), others, ids)
        read = np.where(is_target & (fate < self.masked), codec.special_id(self.mask), read)
        ends = opening_ids(codec), [codec.end_id]
        tokens, targets = (
            np.concatenate([ends[0], body, ends[1]]).astype(np.int32) for body in (read, ids)
        )
        weights = np.pad(is_target.astype(np.float32), (len(ends[0]), 1))
        return Segment(tokens, targets, weights)


def _divide(total: int, parts: int, draws: Draws) -> np.ndarray:
    """Draws [parts] positive lengths that add up to a total, all divisions equally likely."""
    is_cut = draws.chosen(total - 1, parts - 1)
    return np.diff(np.flatnonzero(np.concatenate([[True], is_cut, [True]])))
