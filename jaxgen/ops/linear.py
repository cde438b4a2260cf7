"""A matrix product whose weight gradient transposes its narrower operand.

A weight gradient contracts over the tokens, so a compiler must transpose one operand, and XLA on
CPU fuses that transpose with the operand's producer into a strided loop. Automatic differentiation
always names the incoming gradient first, which for a feed-forward's way up is the wide one with
the gradient of the non-linearity behind it (docs/benchmarks.md has the cost).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.ops.quantised import MatmulDtype, quantised_einsum
from jaxgen.sharding.rules import mesh_is_set


def linear(
    equation: str,
    x: jax.Array,
    weight: jax.Array,
    out: jax.sharding.PartitionSpec,
    dtype: MatmulDtype | None = None,
) -> jax.Array:
    """Returns `jnp.einsum(equation, x, weight)`, laid out as `out` where a mesh is set.

    Every axis of either operand must be in the other or in the result. With a `dtype` operands are
    rounded to 8 bits, and so they are for the gradient of `x`; that of the weight, a sum over all
    tokens, is of what they were before.
    """
    return _linear(equation, x, weight, out, dtype)


def _product(equation, x, weight, out, dtype) -> Any:
    return _einsum(equation, x, weight, out if mesh_is_set() else None, dtype)


def _einsum(equation, x, weight, out, dtype, is_gradient=False) -> Any:
    if dtype is None:
        return jnp.einsum(equation, x, weight, out_sharding=out)
    return quantised_einsum(equation, x, weight, dtype, out, is_gradient)


_linear = jax.custom_vjp(_product, nondiff_argnums=(0, 3, 4))


def _forward(equation, x, weight, out, dtype):
    # The product itself and not `_linear`: a policy that keeps products must see one.
    return _product(equation, x, weight, out, dtype), (x, weight)


def _backward(equation, out, dtype, saved, gradient):
    del out
    x, weight = saved
    operands, result = equation.split("->")
    x_axes, weight_axes = operands.split(",")

    def layout(array):
        return jax.typeof(array).sharding.spec if mesh_is_set() else None

    x_equation = f"{result},{weight_axes}->{x_axes}"
    x_gradient = _einsum(x_equation, gradient, weight, layout(x), dtype, is_gradient=True)
    sizes = dict(zip(weight_axes, weight.shape, strict=True))
    width_in = math.prod(size for axis, size in sizes.items() if axis in x_axes)
    width_out = math.prod(size for axis, size in sizes.items() if axis in result)
    first, second = (x_axes, x), (result, gradient)
    if width_out < width_in:
        first, second = second, first
    # The narrower operand's axes lead the result: einsum would otherwise swap the operands to
    # spare transposing it, and transpose the wide one instead.
    order = sorted(weight_axes, key=lambda axis: (axis not in first[0], axis not in second[0]))
    spec = layout(weight)
    weight_gradient = jnp.einsum(
        f"{first[0]},{second[0]}->{''.join(order)}",
        first[1],
        second[1],
        out_sharding=spec and jax.P(*(spec[weight_axes.index(axis)] for axis in order)),
    ).transpose([order.index(axis) for axis in weight_axes])
    return x_gradient, weight_gradient


_linear.defvjp(_forward, _backward)
