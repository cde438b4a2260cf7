"""Optimiser state in the memory of the host: devices have it only while they update parameters."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jaxgen.errors import ConfigError
from jaxgen.ops.rematerialisation import HOST


def kept_on_host(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the same optimizer, the arrays of its state (but for counters) in host memory."""

    def init(params: Any) -> Any:
        return _moved(optimizer.init(params), jax.memory.Space.Host)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        here = _moved(state, jax.memory.Space.Device)
        updates, new = optimizer.update(updates, here, params)
        return updates, _moved(new, jax.memory.Space.Host)

    return optax.GradientTransformation(init, update)


def abstract_on_host(state: Any) -> Any:
    """Returns the shapes of a state, of whose arrays the layouts say that they are on the host."""

    def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding: Any = leaf.sharding
        return leaf if not leaf.ndim else leaf.update(sharding=sharding.with_memory_kind(HOST))

    return jax.tree.map(place, state)


def is_on_host(leaf: jax.ShapeDtypeStruct) -> bool:
    """Returns whether an array is in host memory by its layout."""
    return getattr(leaf.sharding, "memory_kind", None) == HOST


def check_host_memory(mesh: jax.sharding.Mesh, setting: str) -> None:
    """Checks that a program on these devices can keep arrays in host memory, as a setting asks.

    Raises:
      ConfigError: if they cannot.
    """
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ConfigError(
            f"{setting} keeps arrays in memory of the kind {HOST!r}, and {device.device_kind} "
            f"({device.platform}) has {', '.join(kinds) or 'none'}; leave the setting out."
        )


def _moved(state: Any, memory: Any) -> Any:
    return jax.tree.map(lambda x: jax.device_put(x, memory) if x.ndim else x, state)
