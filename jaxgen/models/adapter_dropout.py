"""Dropout of what adapters read (2106.09685, 4.2), which a merged matrix has no place for.

In a training pass each entry of an adapter's input is left out by a draw of its own, so the product
with A and B is made beside that with the frozen matrix: y = x W + alpha / rank dropout(x) A B.
A block says which pass it is in and gives the key (`dropping`); what multiplies by a parameter
(`parameters.multiply`) comes here where the parameter is adapted and something is to be dropped.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from jaxgen.models.parameters import gather
from jaxgen.ops.dropout import dropout
from jaxgen.ops.linear import linear
from jaxgen.sharding import padding
from jaxgen.sharding.layout import current_layout

if TYPE_CHECKING:
    from jaxgen.models.adapters import AdaptedParameter


@dataclasses.dataclass
class _Keys:
    """The key of a block's pass, and how many products have taken one of it."""

    key: jax.Array
    taken: int = 0


_CURRENT: contextvars.ContextVar[_Keys | None] = contextvars.ContextVar("keys", default=None)


@contextlib.contextmanager
def dropping(key: jax.Array | None) -> Iterator[None]:
    """Lets adapters drop by draws of a key until the context closes; None: they drop nothing."""
    token = _CURRENT.set(None if key is None else _Keys(key))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def is_dropping() -> bool:
    """Returns whether this is a training pass, in which adapters with a rate drop."""
    return _CURRENT.get() is not None


def multiply_dropped(
    adapted: AdaptedParameter,
    equation: str,
    x: jax.Array,
    shape: tuple[int, int],
    out: jax.sharding.PartitionSpec,
    dtype: Any,
) -> jax.Array:
    """Returns the product of x and an adapted matrix whose adapters see x with entries left out.

    Args:
      adapted: the matrix.
      equation: "btd,df->btf" in any letters but r.
      x: [batch, length, in].
      shape: (in, out) of the matrix.
      out: how the product is split.
      dtype: of the product with the frozen matrix, see `ops.linear`.
    """
    keys = _CURRENT.get()
    assert keys is not None
    keys.taken += 1
    left = dropout(x, adapted.dropout, jax.random.fold_in(keys.key, keys.taken))
    of_x, of_w = equation.split("->")[0].split(",")
    base = gather(adapted.base, x.dtype).reshape(shape)
    a = gather(adapted.a, x.dtype).reshape(shape[0], -1)
    b = gather(adapted.b, x.dtype).reshape(-1, shape[1])
    y = linear(equation, x, base, out, dtype)
    low = linear(f"{of_x},{of_w[0]}r->{of_x[:-1]}r", left, a, jax.P(*out[:-1], None))
    added = linear(f"{of_x[:-1]}r,r{of_w[1]}->{of_x[:-1]}{of_w[1]}", low, b, out)
    added = adapted.scale * added
    if adapted.magnitude is None:
        return y + added.astype(y.dtype)
    # DoRA's matrix less the frozen one, c (W + s A B) - W, where c is each column's factor.
    axes = adapted.output_axes
    factor = padding.gathered(adapted.column_factors(), axes, current_layout().rules)
    factor = factor.reshape(shape[1]).astype(x.dtype)
    return y + (factor - 1) * linear(equation, left, base, out, dtype) + factor * added
