"""Rematerialisation: a backward pass computes values again instead of keeping them."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.ad_checkpoint import checkpoint_name

HOST = "pinned_host"
"""The kind of memory that is the host's and that devices can copy from and to."""

NAMES = (
    "query",
    "key",
    "value",
    "attention",
    "attention_out",
    "up",
    "gate",
    "feed_forward",
)
"""Values of a block that may be kept by name: queries, keys and values as they are attended with,
what attention takes from the values before and after its projection, the products up (and of the
gate) before the non-linearity, and what the feed-forward or the experts add to the stream."""


def named(x: jax.Array, name: str) -> jax.Array:
    """Returns a value of a block under one of NAMES, by which a backward pass may keep it."""
    assert name in NAMES, name
    return checkpoint_name(x, name)


def rematerialised(function, policy: str, saved: Sequence[str] = (), offloaded: Sequence[str] = ()):
    """Returns the function, whose backward pass recomputes what the policy does not keep.

    Args:
      function: to be differentiated.
      policy: "none" keeps all, "dots" the matrix products without a batch, "full" nothing.
      saved: of NAMES, values that are kept beside those.
      offloaded: of NAMES, values that are kept in the memory of the host; with "full" only.
    """
    if policy == "none":
        return function
    policies = jax.checkpoint_policies
    if offloaded:
        keep = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=list(saved),
            names_which_can_be_offloaded=list(offloaded),
            offload_src="device",
            offload_dst=HOST,
        )
        return jax.checkpoint(function, policy=keep, prevent_cse=False)
    keep = {
        "dots": policies.dots_with_no_batch_dims_saveable,
        "full": policies.nothing_saveable,
    }[policy]
    if saved:
        keep = policies.save_from_both_policies(keep, policies.save_only_these_names(*saved))
    return jax.checkpoint(function, policy=keep, prevent_cse=False)
