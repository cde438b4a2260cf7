"""The sparse feed-forward beside the dense one of the same active FLOPs, forward and backward.

    python tools/bench/moe.py

4,096 tokens, width 256, 16 experts of width 512, two for each token; the dense feed-forward is
1,024 wide. Times include routing, dispatch, combination and the gradients of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx
from timing import print_table, time_interleaved

from jaxgen.models.config import TransformerConfig
from jaxgen.models.feedforward import FeedForward
from jaxgen.models.moe import MoE
from jaxgen.ops.grouped_matmul import Implementation
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.process import prepare_process
from jaxgen.sharding.layout import Layout, using

Kind = Literal["swiglu", "gelu"]
SHAPE = (16, 256, 256)  # batch, length, embed


def main() -> None:
    """Prints a table for each kind of feed-forward."""
    prepare_process()
    kinds: tuple[Kind, ...] = ("swiglu", "gelu")
    for kind in kinds:
        candidates = {
            "dense": build(kind, None),
            "sparse, blocks": build(kind, "blocks"),
            "sparse, ragged_dot": build(kind, "ragged_dot"),
        }
        seconds = time_interleaved(candidates)
        print_table(f"feed-forward, {kind}, forward and backward", seconds, baseline="dense")


def build(kind: Kind, implementation: Implementation | None) -> Callable[[], object]:
    """A call that computes all gradients once; None is the dense feed-forward."""
    config = TransformerConfig(
        num_layers=1,
        embed_dim=SHAPE[2],
        num_heads=4,
        vocab_size=512,
        mlp_dim=1024,
        activation="gelu_tanh" if kind == "gelu" else "silu",
        gated=kind != "gelu",
        moe=MoEConfig(num_experts=16, experts_per_token=2, mlp_dim=512),
    )
    with using(Layout()):
        layer = (FeedForward if implementation is None else MoE)(config, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), SHAPE)
    cotangent = jax.random.normal(jax.random.key(1), SHAPE)
    segment_ids = jnp.ones(SHAPE[:2], jnp.int32)

    def loss(layer, x):
        with using(Layout()):
            if isinstance(layer, FeedForward):
                return jnp.vdot(layer(x), cotangent)
            y, statistics = layer(x, RoutedTokens(segment_ids))
        return jnp.vdot(y, cotangent) + statistics.load_balance_loss + statistics.z_loss

    differentiate = jax.jit(jax.grad(loss, (0, 1)))
    with mock.patch("jaxgen.models.moe.default_implementation", return_value=implementation):
        jax.block_until_ready(differentiate(layer, x))
    return lambda: jax.block_until_ready(differentiate(layer, x))


if __name__ == "__main__":
    main()
