"""The distribution that a token is drawn from: logits by temperature, top-k and top-p."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Filter(NamedTuple):
    """How logits become a distribution; hashable, so that a batch can say how it was drawn.

    Attributes:
      temperature: above 0.
      top_k: only the k largest logits stay; None keeps all.
      top_p: of those, the fewest whose probabilities reach p stay; None keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether no token is excluded."""
        return self.top_k is None and (self.top_p is None or self.top_p >= 1)


def filter_logits(logits: jax.Array, by: Filter) -> jax.Array:
    """Returns logits to draw from: excluded tokens become -inf.

    Args:
      logits: [..., vocab] float32.
      by: what is excluded.

    Returns:
      [..., vocab] float32.
    """
    logits = logits / by.temperature
    if by.top_k is not None:
        smallest = jax.lax.top_k(logits, min(by.top_k, logits.shape[-1]))[0][..., -1:]
        logits = jnp.where(logits >= smallest, logits, -jnp.inf)
    if by.top_p is not None and by.top_p < 1:
        descending = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(descending, axis=-1)
        # A token stays while the more likely ones before it have not yet reached p.
        stays = jnp.cumsum(probabilities, axis=-1) - probabilities < by.top_p
        smallest = jnp.min(jnp.where(stays, descending, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits >= smallest, logits, -jnp.inf)
    return logits
