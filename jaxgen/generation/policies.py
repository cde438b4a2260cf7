"""Sampling policies choose the next token from logits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxgen.domains import NonNegativeFloat, PositiveFraction, PositiveInt, check_domains
from jaxgen.ops.filtering import Filter, filter_logits
from jaxgen.ops.mask_schedules import MaskSchedule


@dataclasses.dataclass(frozen=True)
class ParallelDecoding:
    """How a picture is decoded all at once, see `generation.parallel`.

    Attributes:
      steps: passes of the model; no more than there are codes.
      schedule: how the number of masked codes falls.
      noise: how much Gumbel noise stirs the order in which codes are kept, falling to 0 with the
        last step; 0 keeps the surest.
    """

    steps: PositiveInt = 12
    schedule: MaskSchedule = "cosine"
    noise: NonNegativeFloat = 4.5

    def __post_init__(self):
        check_domains(self, "parallel_decoding")


@dataclasses.dataclass(frozen=True)
class SamplingPolicy:
    """Temperature, then top-k, then top-p (nucleus, 1904.09751), then a draw.

    Attributes:
      temperature: logits are divided by it; 0 takes the largest (greedy).
      top_k: only the k largest logits stay; None keeps all.
      top_p: of those, the fewest whose probabilities reach p stay; None keeps all.
      guidance: scale of classifier-free guidance (2207.12598): how far logits go from those without
        a prompt to those with it; 1 asks the model once, with the prompt.
      parallel: makes all codes of a picture at once; None: one after another.
    """

    temperature: NonNegativeFloat = 1.0
    top_k: PositiveInt | None = None
    top_p: PositiveFraction | None = None
    guidance: NonNegativeFloat = 1.0
    parallel: ParallelDecoding | None = None

    def __post_init__(self):
        check_domains(self, "sampling")

    @property
    def filter(self) -> Filter:
        """Returns how it makes a distribution of logits, where the temperature is above 0."""
        return Filter(self.temperature, self.top_k, self.top_p)


def choose(logits: jax.Array, policy: SamplingPolicy, key: jax.Array) -> jax.Array:
    """Returns the next token of each sequence: [batch, vocab] float32 -> [batch] int32."""
    if policy.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    filtered = filter_logits(logits, policy.filter)
    return jax.random.categorical(key, filtered, axis=-1).astype(jnp.int32)
