"""Groups of completions of random tokens."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from jaxgen.group_batch import GroupBatch
from jaxgen.models.policy import Policy
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.sharding.layout import Layout


def random_groups(
    seed: int = 0, batch_size: int = 4, group: int = 2, length: int = 16, vocab_size: int = 64
) -> GroupBatch:
    """Prompts of four tokens, completions of three to all that are left, two tasks."""
    random = np.random.default_rng(seed)
    shape = (batch_size, group, length)
    tokens = random.integers(3, vocab_size, (batch_size, group, length + 1)).astype(np.int32)
    tokens[:, :, :4] = tokens[:, :1, :4]
    lengths = random.integers(7, length + 1, (batch_size, group)).astype(np.int32)
    places = np.broadcast_to(np.arange(length), shape)
    return GroupBatch(
        tokens=np.where(places < lengths[..., None], tokens[..., :-1], 0).astype(np.int32),
        targets=tokens[..., 1:],
        completion_weights=((places >= 3) & (places < lengths[..., None] - 1)).astype(np.float32),
        lengths=lengths,
        scores=random.normal(size=(batch_size, group)).astype(np.float32),
        task_ids=(np.arange(batch_size) % 2).astype(np.int32),
        task_names=("first", "second"),
    )


def build_policy(config: PolicyConfig, seed: int = 0, layout: Layout = Layout()) -> Policy:
    """The policy under the mesh in force."""
    return jax.jit(lambda: Policy(config, nnx.Rngs(seed), layout))()
