"""Matrix products of operands in 8 bits, each with a scale for every row that is contracted.

Qwix makes codes and scales; the product itself is written here, so that its layout can be said.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError

MatmulDtype = Literal["int8", "float8"]
"""What operands are rounded to; float8 is e4m3 forward, and e5m2 for gradients (2209.05433)."""

_FORMATS = {"int8": ("int8", "int8"), "float8": ("float8_e4m3fn", "float8_e5m2")}


def quantised_einsum(
    equation: str,
    x: jax.Array,
    weight: jax.Array,
    dtype: MatmulDtype,
    out: jax.sharding.PartitionSpec | None,
    is_gradient: bool = False,
) -> jax.Array:
    """Returns an einsum of two operands that are rounded first, in the dtype of the first.

    Args:
      equation: of two operands; every axis of one is in the other or in the result, and those of
        the result are in the order of the operands.
      x: activations, or the gradient of a product.
      weight: the other operand.
      dtype: of the codes.
      out: the layout of the result; None where no mesh is set.
      is_gradient: whether `x` is a gradient.

    Raises:
      ConfigError: if qwix is not installed.
    """
    try:
        import qwix
    except ImportError as error:
        raise ConfigError(
            f"model.matmul_dtype={dtype!r} needs qwix: pip install 'jaxgen[quantized]'."
        ) from error
    operands, result = equation.split("->")

    def quantise(array: jax.Array, axes: str, code: str) -> tuple[jax.Array, jax.Array]:
        kept = [place for place, axis in enumerate(axes) if axis in result]
        coded: Any = qwix.quantize(array.astype(jnp.float32), code, channelwise_axes=kept)
        contracted = tuple(place for place in range(array.ndim) if place not in kept)
        scale = jnp.squeeze(coded.scale, contracted)
        others = [place for place, axis in enumerate(result) if axis not in axes]
        return coded.qvalue, jnp.expand_dims(scale, others)

    x_axes, weight_axes = operands.split(",")
    forward, backward = _FORMATS[dtype]
    codes, scale = quantise(x, x_axes, backward if is_gradient else forward)
    weight_codes, weight_scale = quantise(weight, weight_axes, forward)
    wide = jnp.int32 if dtype == "int8" else jnp.float32
    product = jnp.einsum(
        equation, codes, weight_codes, preferred_element_type=wide, out_sharding=out
    )
    return (product.astype(jnp.float32) * scale * weight_scale).astype(x.dtype)
