"""The large arrays of a step, from its traced program: before a compiler has seen it.

Axes are explicit, so the type of every value says how much of it a device has. A compiler fuses
many of these values away and lets others share memory: what is listed here says where to look.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core

from jaxgen.sharding.pipeline import STAGE


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A large array of a program.

    Attributes:
      bytes: of one device's part.
      shape: type and size of that part.
      operation: the operation of the program that makes it.
    """

    bytes: int
    shape: str
    operation: str


def largest_values(jaxpr: Any, mesh: jax.sharding.Mesh, count: int = 8) -> tuple[Buffer, ...]:
    """Returns the largest arrays that a traced program makes, each name and shape once.

    Args:
      jaxpr: such as that of `jax.jit(step).trace(state, batch)`.
      mesh: whose axes split the arrays.
      count: how many.
    """
    found = {(one.shape, one.operation): one for one in _values(jaxpr, mesh, "")}
    return tuple(sorted(found.values(), key=lambda one: -one.bytes)[:count])


def saved_activations(jaxpr: Any, mesh: jax.sharding.Mesh, outer: str = "") -> int:
    """Returns the bytes of a device that the scans over layers keep for the backward pass.

    Args:
      jaxpr: of the traced program.
      mesh: whose axes split the arrays.
      outer: the names of what is around it.
    """
    here, deeper = 0, 0
    for name, equation in _equations(jaxpr, outer):
        if equation.primitive.name != "scan":
            continue
        body = equation.params["jaxpr"]
        if "jvp" in name and "transpose" not in name:
            stacked = equation.outvars[equation.params["num_carry"] :]
            here += sum(bytes_of_type(one.aval, mesh) for one in stacked)
        deeper = max(deeper, saved_activations(body, mesh, name))
    return max(here, deeper)


def bytes_of_type(aval: Any, mesh: jax.sharding.Mesh) -> int:
    """Returns the bytes of a device's part of a value of this type."""
    return math.prod(_local_shape(aval, mesh)) * _itemsize(aval)


def _values(jaxpr: Any, mesh: jax.sharding.Mesh, outer: str) -> Iterator[Buffer]:
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = f"{outer}/{equation.source_info.name_stack}".strip("/")
        inside = list(core.jaxprs_in_params(equation.params))
        for one in inside:
            yield from _values(one, mesh, name)
        for variable in equation.outvars if not inside or equation.primitive.name == "scan" else ():
            aval = variable.aval
            if hasattr(aval, "shape"):
                shape = ",".join(map(str, _local_shape(aval, mesh)))
                made = f"{name}/{equation.primitive.name}".strip("/")
                yield Buffer(bytes_of_type(aval, mesh), f"{aval.dtype}[{shape}]", made)


def _equations(jaxpr: Any, outer: str) -> Iterator[tuple[str, Any]]:
    """Yields the equations of a program, and of what it calls outside of scans, named."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = f"{outer}/{equation.source_info.name_stack}"
        yield name, equation
        if equation.primitive.name != "scan":
            # Names begin anew inside a shard_map; that of a pipeline holds the scans over layers.
            is_pipeline = equation.params.get("manual_axes") == {STAGE}
            for one in core.jaxprs_in_params(equation.params):
                yield from _equations(one, name if is_pipeline else "")


def _local_shape(aval: Any, mesh: jax.sharding.Mesh) -> tuple[int, ...]:
    spec = getattr(getattr(aval, "sharding", None), "spec", ())
    shape = []
    for dimension, size in enumerate(aval.shape):
        axes = spec[dimension] if dimension < len(spec) else None
        axes = (axes,) if isinstance(axes, str) else axes or ()
        parts = math.prod(mesh.shape[axis] for axis in axes)
        shape.append(-(-size // parts))
    return tuple(shape)


def _itemsize(aval: Any) -> int:
    return getattr(getattr(aval, "dtype", None), "itemsize", 0) or 0
