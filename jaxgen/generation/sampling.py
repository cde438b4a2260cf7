"""Sampling continuations with a key-value cache: one compiled program for prompt and tokens."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch, EncoderInput
from jaxgen.codecs.media import MediaRange
from jaxgen.errors import ConfigError
from jaxgen.generation.media import PromptMedia, follow, may_follow
from jaxgen.generation.policies import SamplingPolicy, choose
from jaxgen.models.cache import empty_cache
from jaxgen.models.transformer import Output, Transformer
from jaxgen.ops.filtering import Filter, filter_logits
from jaxgen.sharding.rules import reshard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """Continuations of a batch of prompts.

    Attributes:
      tokens: [batch, max_tokens] int32; after a stop only the first of the stops follows.
      log_probabilities: [batch, max_tokens] float32, of each token under the model (after a
        guidance, before temperature and filters); 0 after the end.
      lengths: [batch] int32, tokens up to and including the stop.
      drawn: [batch, max_tokens] float32, as `log_probabilities`, in the distribution that each
        token was drawn from: after temperature and filters. Of a greedy choice, as before them.
    """

    tokens: Any
    log_probabilities: Any
    lengths: Any
    drawn: Any


def pad_prompts(prompts: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns prompts [batch, longest] int32, padded on the right, and their lengths [batch].

    Raises:
      ConfigError: if a prompt is empty.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    if not len(lengths) or lengths.min() == 0:
        raise ConfigError("a prompt is empty; give at least one token, such as the begin token.")
    tokens = np.full((len(prompts), lengths.max()), pad_id, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def pad_sources(sources: Sequence[np.ndarray], pad_id: int) -> EncoderInput:
    """Returns the input of an encoder-decoder's encoder, padded on the right.

    Raises:
      ConfigError: if a source is empty.
    """
    tokens, lengths = pad_prompts(sources, pad_id)
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    return EncoderInput(tokens, positions, (positions < lengths[:, None]).astype(np.int32))


@functools.partial(jax.jit, static_argnames=("policy", "max_tokens", "stop_ids", "ranges"))
def sample(
    model: Transformer,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    policy: SamplingPolicy,
    max_tokens: int,
    stop_ids: tuple[int, ...],
    source: EncoderInput | None = None,
    media: PromptMedia | None = None,
    ranges: tuple[MediaRange, ...] = (),
) -> Samples:
    """Continues each prompt by up to `max_tokens` tokens.

    Args:
      model: the parameters.
      prompts: [batch, length] int32, padded on the right; with a source what the decoder has
        generated already, at least the begin token. Where the policy has a guidance, the second
        half are what stands in their place for a model that has no prompt.
      lengths: [batch] int32, each at least 1.
      key: of the draws; unused where the policy is greedy.
      policy: how tokens are chosen.
      max_tokens: how many are made.
      stop_ids: each of them ends a sequence; the first fills what comes after.
      source: [batch, source length], what an encoder reads.
      media: of the prompts, where the vocabulary has codes of media.
      ranges: of these codes; what is generated keeps to their grids.

    Returns:
      As many continuations as there are prompts, or half as many where there is a guidance.
    """
    # What is read is any number of tokens, mostly one: no mesh splits it.
    model = model.with_layout(model.layout.with_whole_length())
    is_guided = policy.guidance != 1
    whole = model.layout.rules.activation("batch", None)
    lengths = reshard(lengths, model.layout.rules.activation("batch"))
    output = read_prompts(model, prompts, lengths, max_tokens, source, media)
    state = None
    if media is not None:
        by_row = model.layout.rules.activation("batch")
        state = jax.tree.map(lambda x: reshard(x, by_row), media.state)
    positions = jnp.arange(prompts.shape[1])
    last = (positions == lengths[:, None] - 1).astype(output.hidden.dtype)
    hidden = jnp.einsum("btd,bt->bd", output.hidden, last)

    def step(carry, key):
        cache, hidden, position, ended, state = carry
        logits = reshard(model.logits(hidden[:, None])[:, 0], whole)
        if is_guided:
            logits = _twice(guided(logits, policy.guidance))
        permitted = logits
        if state is not None:
            permitted = jnp.where(may_follow(state, ranges, logits.shape[-1]), logits, -jnp.inf)
        token = choose(permitted, policy, key)
        token = jnp.where(ended, stop_ids[0], _twice(_first_half(token)) if is_guided else token)
        chosen = drawn = log_probability(logits, token)
        if policy.temperature > 0 and policy.filter != Filter():
            drawn = log_probability(filter_logits(permitted, policy.filter), token)
        is_stop = functools.reduce(operator.or_, [token == stop for stop in stop_ids])
        read = tokens_to_read(token[:, None], position[:, None], jnp.ones_like(token)[:, None])
        if state is not None:
            state, modality, place = follow(state, token, ranges)
            read = dataclasses.replace(read, modalities=modality[:, None], places=place[:, None])
        output = model(read, cache)
        carry = (output.cache, output.hidden[:, 0], position + 1, ended | is_stop, state)
        return carry, (token, *(jnp.where(ended, 0.0, x) for x in (chosen, drawn)), ended)

    carry = (output.cache, hidden, lengths, lengths < 0, state)
    _, (tokens, log_probabilities, drawn, ended) = jax.lax.scan(
        step, carry, jax.random.split(key, max_tokens)
    )
    lengths = jnp.sum(~ended, axis=0, dtype=jnp.int32)
    samples = Samples(tokens.T, log_probabilities.T, lengths, drawn.T)
    return jax.tree.map(_first_half, samples) if is_guided else samples


def read_prompts(
    model: Transformer,
    prompts: jax.Array,
    lengths: jax.Array,
    room: int,
    source: EncoderInput | None,
    media: PromptMedia | None,
) -> Output:
    """Returns a model's output for prompts, with a cache of them that has room for more tokens.

    In block-causal layers a prompt is one block, as a prefix is in training.

    Args:
      model: whose layout leaves the length whole.
      prompts: see `sample`; so are `lengths`, `source` and `media`.
      lengths: of the prompts.
      room: tokens that the cache has room for beside the prompts.
      source: of an encoder.
      media: of the prompts.
    """
    rules = model.layout.rules
    whole = rules.activation("batch", None)
    prompts, lengths = reshard(prompts, whole), reshard(lengths, rules.activation("batch"))
    positions = jnp.broadcast_to(jnp.arange(prompts.shape[1], dtype=jnp.int32), prompts.shape)
    positions = reshard(positions, whole)
    is_prompt = (positions < lengths[:, None]).astype(jnp.int32)
    blocks = jnp.maximum(positions, lengths[:, None] - 1)
    read = tokens_to_read(prompts, positions, is_prompt)
    read = dataclasses.replace(read, block_ids=blocks, encoder=source)
    if media is not None:
        placed = jax.tree.map(lambda x: reshard(x, whole), (media.modalities, media.places))
        arrays = jax.tree.map(lambda x: reshard(x, rules.activation("batch")), media.arrays)
        read = dataclasses.replace(read, modalities=placed[0], places=placed[1], media=arrays)
    capacity = prompts.shape[1] + room
    return model(read, empty_cache(model.config, prompts.shape[0], capacity, model.layout))


def guided(logits: jax.Array, scale: float) -> jax.Array:
    """Maps logits [2 * batch, ...], with prompts and without, to guided ones [batch, ...]."""
    with_prompt, without = jnp.split(logits, 2)
    return without + scale * (with_prompt - without)


def _first_half(x: jax.Array) -> jax.Array:
    return x[: len(x) // 2]


def _twice(x: jax.Array) -> jax.Array:
    """Returns all rows two times."""
    return jnp.concatenate([x, x])


def tokens_to_read(tokens: Any, positions: Any, segment_ids: Any) -> Batch:
    """Returns the batch of tokens [batch, length] that are read, for no loss of theirs."""
    return Batch(
        tokens=tokens,
        targets=tokens,
        loss_weights=segment_ids.astype(jnp.float32),
        positions=positions,
        segment_ids=segment_ids,
        task_ids=segment_ids,
    )


def log_probability(logits: jax.Array, token: jax.Array) -> jax.Array:
    """Maps [batch, vocab] logits and [batch] int32 tokens to [batch] nats."""
    is_token = token[:, None] == jnp.arange(logits.shape[-1])
    chosen = jnp.sum(jnp.where(is_token, logits, 0.0), axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1)
