"""Rematerialisation: a backward pass computes values again instead of keeping them."""

from __future__ import annotations

import jax


def rematerialised(function, policy: str):
    """Returns the function, whose backward pass recomputes what the policy names."""
    if policy == "none":
        return function
    policies = {
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "full": jax.checkpoint_policies.nothing_saveable,
    }
    return jax.checkpoint(function, policy=policies[policy], prevent_cse=False)
