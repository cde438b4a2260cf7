"""Modulation: a vector for each row shifts, scales and gates what blocks compute (adaLN-Zero)."""

from __future__ import annotations

import dataclasses

import jax
from flax import nnx

from jaxgen.models.parameters import gather, make_parameter
from jaxgen.ops.initializers import zeros
from jaxgen.ops.linear import linear
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


@dataclasses.dataclass(frozen=True)
class ModulationConfig:
    """The vector that the blocks of a stack are modulated by (DiT, 2212.09748, 3.2).

    Attributes:
      dim: its width.
      feed_forward_epsilon: of the norm before the feed-forward, where it is not the stack's
        (`diffusers` writes DiT so).
    """

    dim: int
    feed_forward_epsilon: float | None = None


class Modulation(nnx.Module):
    """A matrix, zero at first, from a vector to several others of a stream's width."""

    def __init__(self, dim: int, embed: int, parts: int, rngs: nnx.Rngs):
        self.parts = parts
        self.weight = make_parameter(rngs, (dim, parts * embed), ("embed", "mlp"), zeros)
        self.bias = make_parameter(rngs, (parts * embed,), ("mlp",), zeros)

    def __call__(self, vector: jax.Array) -> tuple[jax.Array, ...]:
        """Maps [batch, 1, dim] to as many of [batch, 1, embed] as there are parts."""
        weight = gather(self.weight, vector.dtype)
        y = linear("btd,de->bte", vector, weight, spec("batch", None, "mlp"))
        y = reshard(y + gather(self.bias, y.dtype), spec("batch", None, None))
        embed = y.shape[-1] // self.parts
        return tuple(y[..., part * embed : (part + 1) * embed] for part in range(self.parts))


def shifted(x: jax.Array, shift: jax.Array | None, scale: jax.Array | None) -> jax.Array:
    """Returns a normalised stream, scaled by 1 + scale and shifted; as it is without them."""
    return x if shift is None or scale is None else x * (1 + scale) + shift


def gated(x: jax.Array, gate: jax.Array | None) -> jax.Array:
    """Returns what joins a stream, times its gate; as it is without one."""
    return x if gate is None else x * gate


def count_modulation(dim: int, embed: int, parts: int) -> int:
    """Returns the exact number of parameters of a modulation."""
    return (dim + 1) * parts * embed
