"""Non-linearities by name."""

from __future__ import annotations

from collections.abc import Callable

import jax


def activation(kind: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the non-linearity of that name."""
    return {
        "silu": jax.nn.silu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
        "relu": jax.nn.relu,
        "relu2": lambda x: jax.nn.relu(x) ** 2,
    }[kind]
