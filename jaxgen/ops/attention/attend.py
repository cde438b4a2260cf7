"""One way into attention: it picks the implementation, and says once which and why."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxgen.ops.attention.dense import AttentionCall, dense_attention

_LOGGER = logging.getLogger(__name__)


class Implementation(NamedTuple):
    """A way to compute an attention.

    Attributes:
      compute: gives [batch, heads, queries, value_dim].
      refusal: why it cannot compute a call, or None if it can.
    """

    compute: Callable[[AttentionCall], jax.Array]
    refusal: Callable[[AttentionCall], str | None]


IMPLEMENTATIONS: dict[str, Implementation] = {
    "dense": Implementation(dense_attention, lambda call: None),
}
"""The implementations by name; the first that does not refuse a call computes it."""


def attend(call: AttentionCall) -> jax.Array:
    """Computes an attention by the first implementation that can.

    Returns:
      [batch, heads, queries, value_dim].
    """
    refusals = {name: one.refusal(call) for name, one in IMPLEMENTATIONS.items()}
    chosen = next(name for name, why in refusals.items() if why is None)
    passed_over = [f"{name} ({why})" for name, why in refusals.items() if why is not None]
    _log(chosen, ", ".join(passed_over))
    with jax.named_scope("attend"):
        return IMPLEMENTATIONS[chosen].compute(call)


@functools.cache
def _log(chosen: str, passed_over: str) -> None:
    reason = f"not {passed_over}" if passed_over else "the first of the table"
    _LOGGER.info("attention is computed by %r: %s.", chosen, reason)
