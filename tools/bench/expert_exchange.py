"""Experts on other devices: their tokens gathered or exchanged, forward and backward.

    python tools/bench/expert_exchange.py

8 simulated devices of 512 tokens each, width 256, 16 experts of width 256, two or four for each
token. Beside the times stand the bytes that a device sends, of the compiled program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
from flax import nnx
from timing import print_table, time_interleaved

from jaxgen.models.config import TransformerConfig
from jaxgen.models.moe import MoE
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routed_tokens import RoutedTokens
from jaxgen.planning.work import read_work
from jaxgen.process import prepare_process
from jaxgen.sharding.layout import ExpertExchange, Layout, using
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules

SHAPE = (32, 128, 256)  # batch, length, embed


def main() -> None:
    """Prints a table for each size of the axis."""
    jax.config.update("jax_num_cpu_devices", 8)
    prepare_process()
    choices: tuple[ExpertExchange, ...] = ("gather", "all_to_all")
    for experts_per_token in (2, 4):
        for size in (2, 4, 8):
            candidates = {kind: build(experts_per_token, size, kind) for kind in choices}
            seconds = time_interleaved(candidates)
            title = f"expert={size}, {experts_per_token} for each token"
            print_table(title, seconds, baseline="gather")


def build(experts_per_token: int, size: int, kind: ExpertExchange) -> Callable[[], object]:
    """A call that computes all gradients once."""
    moe = MoEConfig(num_experts=16, experts_per_token=experts_per_token, mlp_dim=256)
    config = TransformerConfig(
        num_layers=1, embed_dim=SHAPE[2], num_heads=4, vocab_size=512, mlp_dim=256, moe=moe
    )
    mesh = make_mesh(MeshConfig(data=-1, expert=size))

    def loss(layer, x):
        y, statistics = layer(x, RoutedTokens(jnp.ones_like(x[..., 0], jnp.int32)))
        return jnp.sum(jnp.square(y)) + statistics.load_balance_loss + statistics.z_loss

    with jax.set_mesh(mesh), using(Layout(expert_exchange=kind)):
        layer = jax.jit(lambda: MoE(config, nnx.Rngs(0)))()
        x = jax.random.normal(jax.random.key(0), SHAPE)
        x = jax.reshard(x, Rules().activation("batch", "length", None))
        differentiate = jax.jit(jax.grad(loss, (0, 1))).lower(layer, x).compile()
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    # Further rounds, which are loops of no turns here, are left out.
    found = read_work(differentiate.as_text() or "", sizes, Fraction(0)).collectives
    sent = sum(one.bytes for one in found if "expert" in one.axes) * (size - 1) / size
    print(f"expert={size}, {experts_per_token} each, {kind}: {sent / 2**20:.2f} MiB a device")
    return functools.partial(_run, differentiate, layer, x)


def _run(differentiate, layer, x):
    return jax.block_until_ready(differentiate(layer, x))


if __name__ == "__main__":
    main()
