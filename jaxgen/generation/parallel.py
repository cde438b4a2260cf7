"""Decoding all codes of a picture at once, the surest first (MaskGIT, 2202.04200, 3.2).

All codes begin masked. In each step the model fills in every one that is, and those that it is
least sure of are masked again, ever fewer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.codecs.media import MediaRange
from jaxgen.errors import ConfigError
from jaxgen.generation.media import PromptMedia
from jaxgen.generation.policies import SamplingPolicy, choose
from jaxgen.generation.sampling import guided, log_probability, read_prompts, tokens_to_read
from jaxgen.models.config import TransformerConfig
from jaxgen.models.transformer import Transformer
from jaxgen.ops.attention.masks import looks_ahead
from jaxgen.ops.mask_schedules import masks_left
from jaxgen.sharding.rules import reshard


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParallelSamples:
    """Codes of a batch of prompts, all [batch, codes].

    Attributes:
      tokens: int32 ids.
      log_probabilities: float32, of each under the model in the step that kept it.
      steps: int32, the step that kept it, counted from 0.
    """

    tokens: Any
    log_probabilities: Any
    steps: Any


@functools.partial(jax.jit, static_argnames=("policy", "ranges", "number", "mask_id"))
def sample_in_parallel(
    model: Transformer,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    *,
    policy: SamplingPolicy,
    ranges: tuple[MediaRange, ...],
    number: int,
    mask_id: int,
    media: PromptMedia,
) -> ParallelSamples:
    """Makes the codes of one picture after each prompt.

    Args:
      model: the parameters; trained on masked codes.
      prompts: [batch, length] int32, padded on the right, with the token that begins the picture
        last; in two halves where the policy has a guidance, see `sampling.sample`.
      lengths: [batch] int32.
      key: of the draws.
      policy: how codes are chosen; its `parallel` says in how many steps.
      ranges: the media of the vocabulary.
      number: of the medium that is made, from 1.
      mask_id: the mask token's id.
      media: of the prompts.
    """
    plan, medium = policy.parallel, ranges[number - 1]
    assert plan is not None
    size = medium.size
    model = model.with_layout(model.layout.with_whole_length())
    whole = model.layout.rules.activation("batch", None)
    cache = read_prompts(model, prompts, lengths, size, None, media).cache
    lengths = reshard(lengths, model.layout.rules.activation("batch"))
    codes = reshard(jnp.zeros((len(prompts), size), jnp.int32), whole)
    positions = lengths[:, None] + jnp.arange(size, dtype=jnp.int32) + codes
    place = jnp.array(np.stack(np.unravel_index(np.arange(size), medium.grid), -1), jnp.int32)
    of_medium = jnp.full_like(codes, number)
    is_guided = policy.guidance != 1
    kept = len(prompts) // 2 if is_guided else len(prompts)

    def fill(tokens):
        """Returns logits of the codes, [kept, size, codes] float32."""
        read = tokens_to_read(tokens, positions, jnp.ones_like(tokens))
        read = dataclasses.replace(
            read,
            block_ids=jnp.broadcast_to(positions[:, -1:], positions.shape),
            modalities=of_medium,
            places=place + codes[..., None],
        )
        logits = model.logits(model(read, cache).hidden)
        logits = reshard(logits, model.layout.rules.activation("batch", None, None))
        logits = logits[..., medium.first_id : medium.first_id + medium.num_codes]
        return guided(logits, policy.guidance) if is_guided else logits

    def step(state, scanned):
        tokens, total, since, is_masked = state
        left, noise, index, key = scanned
        drawing, perturbing = jax.random.split(key)
        logits = fill(jnp.concatenate([tokens, tokens]) if is_guided else tokens)
        draw = jax.vmap(lambda logits, key: choose(logits, policy, key), (1, 0), 1)
        drawn = draw(logits, jax.random.split(drawing, size))
        sure = jax.vmap(log_probability, 1, 1)(logits, drawn)
        order = sure + noise * jax.random.gumbel(perturbing, sure.shape)
        # What was kept stays: of all, the least sure of those that were masked are masked again.
        order = jnp.where(is_masked, order, jnp.inf)
        rank = jnp.argsort(jnp.argsort(order, axis=-1), axis=-1)
        again = is_masked & (rank < left)
        new = is_masked & ~again
        tokens = jnp.where(again, mask_id, jnp.where(new, medium.first_id + drawn, tokens))
        since = jnp.where(new, index, since)
        return (tokens, jnp.where(new, sure, total), since, again), None

    left = masks_left(size, plan.steps, plan.schedule)
    progress = np.arange(1, len(left) + 1) / len(left)
    scanned = (
        jnp.array(left, jnp.int32),
        jnp.array(plan.noise * (1 - progress), jnp.float32),
        jnp.arange(len(left), dtype=jnp.int32),
        jax.random.split(key, len(left)),
    )
    start = codes[:kept]
    state = (start + mask_id, start.astype(jnp.float32), start, start == 0)
    (tokens, total, since, _), _ = jax.lax.scan(step, state, scanned)
    return ParallelSamples(tokens, total, since)


def medium_to_make(
    config: TransformerConfig, ranges: Sequence[MediaRange], prompts: Sequence[np.ndarray]
) -> int:
    """Returns the number, from 1, of the medium that all prompts end with the beginning of.

    Raises:
      ConfigError: if its codes cannot be decoded in parallel.
    """
    if config.has_encoder or not all(looks_ahead(one.mask) for one in config.kinds_of_layers):
        raise ConfigError(
            "parallel decoding needs a model without an encoder whose codes see one another: "
            "layers with the mask (@block_causal(),), trained with masked_codes."
        )
    lasts = {int(ids[-1]) if len(ids) else -1 for ids in prompts}
    for number, one in enumerate(ranges, start=1):
        if lasts == {one.begin_id} and one.form is None and not one.varies:
            return number
    raise ConfigError(
        "parallel decoding makes pictures, or other media of one size: leave sampling.parallel "
        "(--parallel_steps) out where text, or a sound of any length, is written."
    )
