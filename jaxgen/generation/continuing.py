"""Completions of prompts of any lengths, batch by batch: token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, pad_sources, sample
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
) -> list[np.ndarray]:
    """Returns the completion of each prompt: ids up to the end token, which is left out.

    A begin token is put before each prompt, as before every text that the model was trained on; an
    encoder reads the prompt and an end token, and its decoder generates the completion.

    Args:
      model: the parameters; call under `jax.set_mesh`.
      codec: of the begin, end and padding tokens.
      prompts: ids, [n] each; may be empty.
      key: of the draws; each batch has its own.
      policy: how tokens are chosen.
      max_tokens: the most that are generated.
      batch_size: prompts at a time; None: all.
    """
    size = batch_size or len(prompts)
    completions: list[np.ndarray] = []
    for first in range(0, len(prompts), size):
        some = list(prompts[first : first + size])
        count = len(some)
        some += [some[0]] * (size - count)
        source = None
        if model.config.has_encoder:
            source = pad_sources([np.append(ids, codec.end_id) for ids in some], codec.pad_id)
            some = [ids[:0] for ids in some]
        started = [np.concatenate([[codec.begin_id], ids]) for ids in some]
        tokens, lengths = pad_prompts(started, codec.pad_id)
        tokens = np.pad(
            tokens, [(0, 0), (0, -tokens.shape[1] % WIDTHS)], constant_values=codec.pad_id
        )
        samples = sample(
            model,
            tokens,
            lengths,
            jax.random.fold_in(key, first),
            policy=policy,
            max_tokens=max_tokens,
            end_id=codec.end_id,
            source=source,
        )
        rows, ends = np.asarray(samples.tokens)[:count], np.asarray(samples.lengths)[:count]
        for row, end in zip(rows, ends, strict=True):
            ids = row[:end]
            completions.append(ids[:-1] if len(ids) and ids[-1] == codec.end_id else ids)
    return completions
