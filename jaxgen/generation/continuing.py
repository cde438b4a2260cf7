"""Completions of prompts of any lengths, batch by batch: token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids, opening_ids, stop_ids
from jaxgen.codecs.media import Media, media_ranges
from jaxgen.codecs.special import MASK
from jaxgen.distributed import fetch
from jaxgen.errors import ConfigError
from jaxgen.generation.media import media_of_prompts
from jaxgen.generation.parallel import medium_to_make, sample_in_parallel
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, pad_sources, sample
from jaxgen.models.config import TransformerConfig
from jaxgen.models.transformer import Transformer

WIDTHS = 32
"""Prompts are padded to a multiple of this, so that few programs are compiled."""


def continue_prompts(
    model: Transformer,
    codec: Codec,
    prompts: Sequence[np.ndarray],
    key: jax.Array,
    policy: SamplingPolicy,
    max_tokens: int,
    batch_size: int | None = None,
    stops: tuple[int, ...] | None = None,
    without: Sequence[np.ndarray] | None = None,
    media: Sequence[Sequence[Media]] | None = None,
) -> list[np.ndarray]:
    """Returns the completion of each prompt: ids up to a stop, which is left out.

    The begin tokens are put before each prompt, as before every text that the model was trained
    on, unless the codec adds none; an encoder reads the prompt and an end token, and its decoder
    generates the completion.

    Args:
      model: the parameters; call under `jax.set_mesh`.
      codec: of the begin, end, stop and padding tokens.
      prompts: ids, [n] each; may be empty.
      key: of the draws; each batch has its own.
      policy: how tokens are chosen.
      max_tokens: the most that are generated.
      batch_size: prompts at a time; None: all.
      stops: ids that end a completion; None: the codec's.
      without: where the policy has a guidance, what stands for each prompt in the model's answer
        without it; None: nothing.
      media: of each prompt what the model reads beside its ids, see `Example.media`; None: nothing.

    Raises:
      ConfigError: before anything is computed, if the model has no positions for them, or cannot
        decode in parallel where the policy does.
    """
    check_positions(model.config, codec, prompts, max_tokens)
    size = batch_size or len(prompts)
    stops = stop_ids(codec) if stops is None else stops
    ranges = media_ranges(codec)
    number = None if policy.parallel is None else medium_to_make(model.config, ranges, prompts)
    if policy.guidance != 1:
        if model.config.has_encoder:
            raise ConfigError(
                f"sampling.guidance={policy.guidance:g} needs a model without an encoder; set 1."
            )
        without = [ids[:0] for ids in prompts] if without is None else list(without)
    media = [()] * len(prompts) if media is None else media
    completions: list[np.ndarray] = []
    for first in range(0, len(prompts), size):
        some = list(prompts[first : first + size])
        count = len(some)
        some += [some[0]] * (size - count)
        seen = [*media[first : first + size], *[()] * (size - count)]
        if without is not None:
            others = list(without[first : first + size])
            some += others + [others[0]] * (size - count)
            seen += [()] * size
        source = None
        if model.config.has_encoder:
            source = pad_sources([np.append(ids, codec.end_id) for ids in some], codec.pad_id)
            some = [ids[:0] for ids in some]
        started = [started_with(codec, ids) for ids in some]
        tokens, lengths = pad_prompts(started, codec.pad_id)
        tokens = np.pad(
            tokens, [(0, 0), (0, -tokens.shape[1] % WIDTHS)], constant_values=codec.pad_id
        )
        drawn = jax.random.fold_in(key, first)
        of_prompts = media_of_prompts(tokens, lengths, ranges, seen) if ranges else None
        if number is not None:
            assert of_prompts is not None
            made = sample_in_parallel(
                model,
                tokens,
                lengths,
                drawn,
                policy=policy,
                ranges=ranges,
                number=number,
                mask_id=codec.special_id(MASK[0]),
                media=of_prompts,
            )
            completions += list(fetch(made.tokens)[:count])
            continue
        samples = sample(
            model,
            tokens,
            lengths,
            drawn,
            policy=policy,
            max_tokens=max_tokens,
            stop_ids=stops,
            source=source,
            media=of_prompts,
            ranges=ranges,
        )
        rows, ends = (x[:count] for x in fetch((samples.tokens, samples.lengths)))
        for row, end in zip(rows, ends, strict=True):
            ids = row[:end]
            completions.append(ids[:-1] if len(ids) and ids[-1] in stops else ids)
    return completions


def started_with(codec: Codec, ids: np.ndarray) -> np.ndarray:
    """Returns a prompt as the model reads it, never empty."""
    before = begin_ids(codec) if len(ids) else opening_ids(codec)
    return np.append(np.array(before, np.int32), ids)


def readable_length(config: TransformerConfig, trained_length: int) -> int:
    """Returns the most tokens that a model is made to read: its own, or what it was trained on."""
    return config.max_length or trained_length


def check_positions(
    config: TransformerConfig, codec: Codec, prompts: Sequence[np.ndarray], max_tokens: int
) -> None:
    """Checks that a model has positions for all prompts and completions.

    Raises:
      ConfigError: if its positions are a table, and that is too short.
    """
    if config.embedding_positions != "learned" or not prompts:
        return
    begin, rows = len(opening_ids(codec)), config.max_length or 0
    longest = begin + max(len(ids) for ids in prompts)
    needed = max(longest, begin + max_tokens) if config.has_encoder else longest + max_tokens
    if needed > rows:
        raise ConfigError(
            f"a prompt of {longest - begin} tokens, the begin token and {max_tokens} to generate "
            f"(max_tokens) need {needed} positions, and the model has learned "
            f"model.max_length={rows}; generate fewer, or shorten the prompt."
        )
