"""One way into attention: it picks the implementation, and says once which and why."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxgen.errors import ConfigError
from jaxgen.ops.attention.blockwise import blockwise_attention, blockwise_refusal
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.cudnn import cudnn_attention, cudnn_refusal
from jaxgen.ops.attention.dense import dense_attention
from jaxgen.ops.attention.ring import ring_attention, ring_refusal
from jaxgen.ops.attention.splash import splash_attention, splash_refusal, splash_slower
from jaxgen.sharding.layout import current_layout
from jaxgen.sharding.rules import compiled_for

_LOGGER = logging.getLogger(__name__)

DENSE_UP_TO = 2048
"""The length from which on attention goes block by block.

On CPU blocks run on one core, and are faster only where a window leaves most of them out; others
are taken for their memory alone, from 4 times that on (`tools/bench/attention.py`).
"""


class Implementation(NamedTuple):
    """A way to compute an attention.

    Attributes:
      compute: gives [batch, heads, queries, value_dim].
      refusal: why it cannot compute a call, or None if it can.
      slower: why another one should, or None; not asked where this one is demanded.
      platform: the only one that it runs on, or None.
    """

    compute: Callable[[AttentionCall], jax.Array]
    refusal: Callable[[AttentionCall], str | None] = lambda call: None
    slower: Callable[[AttentionCall], str | None] = lambda call: None
    platform: str | None = None


def _few_logits(call: AttentionCall) -> str | None:
    queries, keys = call.query.shape[2], call.key.shape[2]
    # Causality leaves out half of the distances, of which dense attention computes little as well.
    most = call.mask.may_allow(np.arange(1 - keys, queries)).mean() >= 0.5
    least = 4 * DENSE_UP_TO if most and compiled_for() == "cpu" else DENSE_UP_TO
    if queries * keys >= least**2:
        return None
    return f"{queries} queries by {keys} keys are fewer than {least} by {least}"


IMPLEMENTATIONS: dict[str, Implementation] = {
    "splash": Implementation(splash_attention, splash_refusal, splash_slower, "tpu"),
    "cudnn": Implementation(cudnn_attention, cudnn_refusal, platform="gpu"),
    "blockwise": Implementation(blockwise_attention, blockwise_refusal, _few_logits),
    "dense": Implementation(dense_attention),
    "ring": Implementation(ring_attention, ring_refusal),
}
"""The implementations by name; the first that nothing speaks against computes a call.

"ring" comes last: keys are split along their length only where it is demanded.
"""


def attend(call: AttentionCall) -> jax.Array:
    """Computes an attention by the implementation of the layout, or by the first that suits.

    Returns:
      [batch, heads, queries, value_dim].

    Raises:
      ConfigError: if the implementation that the layout demands cannot compute the call.
    """
    demanded, platform = current_layout().attention, compiled_for()
    if demanded == "ring" and not call.key_axes:
        demanded = "auto"  # Such as of single tokens to a cache, which every device has whole.
    if demanded != "auto":
        why = _refusal(IMPLEMENTATIONS[demanded], call, platform)
        if why is not None:
            raise ConfigError(
                f"execution.attention={demanded!r} cannot compute an attention of this run: {why}. "
                "Set execution.attention='auto'."
            )
        chosen, reason = demanded, "demanded"
    else:
        chosen, reason = _first_that_suits(call, platform)
    _log(chosen, reason)
    with jax.named_scope("attend"):
        return IMPLEMENTATIONS[chosen].compute(call)


def _first_that_suits(call: AttentionCall, platform: str) -> tuple[str, str]:
    """Returns a name and why it is that one."""
    passed_over = []
    for name, one in IMPLEMENTATIONS.items():
        if one.platform not in (None, platform):
            continue
        why = one.refusal(call) or one.slower(call)
        if why is None:
            break
        passed_over.append(f"{name} ({why})")
    else:
        raise AssertionError("dense attention refuses nothing")
    return name, f"not {', '.join(passed_over)}" if passed_over else f"the first for {platform}"


def _refusal(one: Implementation, call: AttentionCall, platform: str) -> str | None:
    if one.platform not in (None, platform):
        return f"it runs on {one.platform}, and the program is compiled for {platform}"
    return one.refusal(call)


@functools.cache
def _log(chosen: str, reason: str) -> None:
    _LOGGER.info("attention is computed by %r: %s.", chosen, reason)
