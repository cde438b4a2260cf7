"""Masked modalities: some tokens of texts, pictures and sounds predicted from some of the others.

Two denoisings of whole examples (prompt_answer.denoising), of whatever modalities these have.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids, opening_ids
from jaxgen.codecs.media import TEXT, locate, media_ranges, modality_names
from jaxgen.data.denoising import SpanCorruption, replace_spans
from jaxgen.data.draws import Draws
from jaxgen.data.protocols import Sizes
from jaxgen.data.segments import Segment, continuation
from jaxgen.domains import (
    InnerFraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class MaskedModalities:
    """Predicts a random subset of an example's tokens from another one (4M, 2312.06647, 3.2).

    How the input and the target tokens divide among the modalities is drawn from two symmetric
    Dirichlet distributions, and which they are uniformly. Targets are masked, and so is all that is
    in neither, so that every token keeps its place; 4M leaves the latter out to save time. Targets
    are in their own places (next_token_loss.in_place), for a model that sees both ways.

    Attributes:
      inputs: tokens that are read, of all modalities together.
      targets: tokens that are predicted.
      alpha: of the distributions; small ones take most of a subset from one modality.
      mask: the mask token's name in the tokenizer.
    """

    inputs: PositiveInt = 128
    targets: PositiveInt = 128
    alpha: PositiveFloat = 1.0
    mask: str = "<|mask|>"

    has_blocks = False

    def __post_init__(self):
        check_domains(self, "masked_modalities")

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to sizes; begin and end tokens stand around each example."""
        if has_source:
            raise DataError(
                "masked_modalities is for a model without an encoder beside it; use "
                "modality_denoising, or leave out train.source_length."
            )
        return chunks + len(opening_ids(codec)) + 1, np.zeros_like(chunks)

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns an example's segment, in which at least one token is predicted.

        Raises:
          DataError: if it has nothing to predict.
        """
        del has_source
        begin = opening_ids(codec)
        whole = np.concatenate([begin, ids, [codec.end_id]]).astype(np.int32)
        modalities, places = locate(whole, media_ranges(codec))
        is_read, is_target = np.zeros((2, len(whole)), bool)
        kinds = _predictable(whole, modalities, codec)
        kinds[: len(begin)] = kinds[-1] = -1
        is_read[kinds < 0] = True
        numbers = np.unique(kinds[kinds >= 0])
        if not len(numbers):
            raise DataError(
                "an example has no tokens that masked_modalities could predict; give it a text or "
                "media of codes, or leave such records out."
            )
        for taken, budget in ((is_read, self.inputs), (is_target, self.targets)):
            shares = dirichlet(self.alpha, len(numbers), draws)
            for number, share in zip(numbers, shares, strict=True):
                free = np.flatnonzero((kinds == number) & ~is_read & ~is_target)
                count = min(round(budget * share), len(free))
                taken[free[draws.chosen(len(free), count)]] = True
        if not is_target.any():  # All was read, or the share of what was not came to nothing.
            free = np.flatnonzero((kinds >= 0) & ~is_read)
            free = free if len(free) else np.flatnonzero(kinds >= 0)
            is_target[free[draws.chosen(len(free), 1)]] = True
            is_read &= ~is_target
        tokens = np.where(is_read, whole, codec.special_id(self.mask)).astype(np.int32)
        weights = is_target.astype(np.float32)
        return Segment(tokens, whole, weights, modalities=modalities, places=places)


def dirichlet(alpha: float, count: int, draws: Draws) -> np.ndarray:
    """Draws [count] shares that add up to 1 from a symmetric Dirichlet distribution."""
    from scipy.special import gammaincinv  # Half a second that other data need not wait for.

    levels = draws.uniform(count)
    gammas = gammaincinv(alpha, levels)
    if not gammas.sum():  # So small an alpha takes all from one.
        return (levels == levels.max()).astype(np.float64)
    return gammas / gammas.sum()


Paradigm = Literal["R", "S", "X"]


@dataclasses.dataclass(frozen=True)
class ModalityDenoising:
    """Predicts one of an example's modalities by one of three paradigms (Unified-IO 2, 2312.17172).

    Which modality is drawn, each that the example has being equally likely, and then the paradigm.
    Of text, its longest piece: [R] spans that sentinels stand for, [X] many or long ones, or [S]
    its rest after a cut. Of a picture, a sound or a clip, the longest: [R] the whole of it, of
    which the input has a part with the rest masked and only the rest is in the loss, or [S] the
    whole of it from all else. A text such as "[image] [R] " before the input tells which; the input
    is a prefix, or what an encoder reads.

    Attributes:
      regular: the spans of [R] in text.
      extreme: the spans of [X] in text.
      media_density: share of a medium's codes that [R] masks.
      weights: of the paradigms R, S and X; media, which have no X, divide by the first two.
      mask: the mask token's name in the tokenizer.
    """

    regular: SpanCorruption = dataclasses.field(default=SpanCorruption())
    extreme: SpanCorruption = dataclasses.field(default=SpanCorruption(0.5, 32.0))
    media_density: InnerFraction = 0.75
    weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0)
    mask: str = "<|mask|>"

    has_blocks = True

    def __post_init__(self):
        check_domains(self, "modality_denoising")
        if not sum(self.weights[:2]):
            raise ConfigError(
                f"modality_denoising.weights={self.weights} leave R and S out, and media have no "
                "other paradigm; give one of them a weight."
            )

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to the largest sizes of their segments."""
        modes = [mode_of(name, "R") for name in modality_names(codec) or (TEXT,)]
        mode = max(len(codec.encode(one)) for one in modes)
        begin = len(opening_ids(codec))
        if has_source:
            return chunks + begin + 1, chunks + mode + 1
        return 2 * chunks + mode + begin + 1, np.zeros_like(chunks)

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns an example's segment.

        Raises:
          DataError: if it has nothing to predict.
        """
        modalities, places = locate(ids, media_ranges(codec))
        kinds = _predictable(ids, modalities, codec)
        present = np.unique(kinds[kinds >= 0])
        if not len(present):
            raise DataError(
                "an example has neither text nor codes to predict; leave such records out."
            )
        number = int(present[draws.integers(1, len(present))[0]])
        paradigm = self._paradigm(number > 0, draws)
        first, stop = longest_run(kinds == number)
        if number:
            read, kept, targets, weights = self._of_medium(ids, first, stop, paradigm, codec, draws)
        else:
            read, kept, targets = self._of_text(ids, first, stop, paradigm, codec, draws)
            weights = np.ones(len(targets), np.float32)
        mode = codec.encode(mode_of((modality_names(codec) or (TEXT,))[number], paradigm))
        prompt = np.concatenate([mode, read]).astype(np.int32)
        weights = np.concatenate([np.zeros(len(prompt), np.float32), weights])
        segment = continuation(prompt, targets, codec, has_source, weights)
        if not media_ranges(codec):
            return segment
        of_targets = locate(targets, media_ranges(codec))
        before = len(opening_ids(codec)) if has_source else len(begin_ids(codec)) + len(mode)
        return segment._replace(
            modalities=_laid(modalities[kept], of_targets[0], before, segment, has_source),
            places=_laid(places[kept], of_targets[1], before, segment, has_source),
        )

    def _paradigm(self, is_medium: bool, draws: Draws) -> Paradigm:
        weights = np.array(self.weights[: 2 if is_medium else 3])
        ends = np.cumsum(weights / weights.sum())
        number = int(np.searchsorted(ends, draws.uniform(1)[0], side="right"))
        return ("R", "S", "X")[min(number, len(weights) - 1)]

    def _of_medium(self, ids, first: int, stop: int, paradigm: Paradigm, codec, draws: Draws):
        """Returns what is read, the places of `ids` that it is of, targets and their weights."""
        whole = slice(max(first - 1, 0), stop + 1)  # With the tokens that begin and end it.
        targets = ids[whole]
        if paradigm == "S":
            kept = np.delete(np.arange(len(ids)), whole)
            return ids[kept], kept, targets, np.ones(len(targets), np.float32)
        count = max(1, round((stop - first) * self.media_density))
        is_masked = np.zeros(len(ids), bool)
        is_masked[first:stop] = draws.chosen(stop - first, count)
        read = np.where(is_masked, codec.special_id(self.mask), ids)
        return read, np.arange(len(ids)), targets, is_masked[whole].astype(np.float32)

    def _of_text(self, ids, first: int, stop: int, paradigm: Paradigm, codec, draws: Draws):
        """Returns what is read, the places of `ids` that it is of, and the targets."""
        if paradigm == "S":
            cut = first + int(draws.integers(1, stop - first)[0])
            kept = np.delete(np.arange(len(ids)), slice(cut, stop))
            return ids[kept], kept, ids[cut:stop]
        spans = self.regular if paradigm == "R" else self.extreme
        text = ids[first:stop]
        is_noise = spans.noise(len(text), draws)
        read, targets = replace_spans(text, is_noise, spans.sentinels(text, is_noise, codec))
        # Where what is read lies is known of media alone: any place of the text will do.
        kept = np.concatenate(
            [np.arange(first), np.full(len(read), first), np.arange(stop, len(ids))]
        )
        return np.concatenate([ids[:first], read, ids[stop:]]), kept, targets


def mode_of(modality: str, paradigm: str) -> str:
    """Returns the text before an input that says what is asked for."""
    return f"[{modality}] [{paradigm}] "


def longest_run(is_in: np.ndarray) -> tuple[int, int]:
    """Returns where the longest run of true begins and stops; of equal ones the first."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_in.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _predictable(ids: np.ndarray, modalities: np.ndarray, codec: Codec) -> np.ndarray:
    """Returns what each token is of; -1 for what is never predicted.

    Those are the tokens that begin and end media, and the placeholders of media without codes.
    """
    kinds = np.array(modalities)
    for number, one in enumerate(media_ranges(codec), start=1):
        kinds[np.isin(ids, [one.begin_id, one.end_id])] = -1
        if one.form is not None:
            kinds[modalities == number] = -1
    return kinds


def _laid(
    read: np.ndarray, targets: np.ndarray, before: int, segment: Segment, has_source: bool
) -> np.ndarray:
    """Returns what is known of the input's and the targets' tokens where these are in a segment."""
    laid = np.zeros((len(segment.tokens), *read.shape[1:]), np.int32)
    if has_source:  # The begin tokens, and then all targets, the last of which nothing follows.
        laid[before:] = targets
        return laid
    known = np.concatenate([read, targets])
    laid[before : before + len(known)] = known[: len(laid) - before]
    return laid
