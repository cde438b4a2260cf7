"""What a backward pass computes again instead of keeping."""

from __future__ import annotations

import jax


def rematerialised(function, policy: str):
    """The function, recomputing in its backward pass what the policy's name says."""
    if policy == "none":
        return function
    policies = {
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "full": jax.checkpoint_policies.nothing_saveable,
    }
    return jax.checkpoint(function, policy=policies[policy], prevent_cse=False)
