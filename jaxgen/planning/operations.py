"""Operations of one instruction: matrix products, convolutions, and kernels that say theirs."""

from __future__ import annotations

import functools
import math
import re

from jaxgen.planning.hlo import Computation, Instruction

_SPLASH_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
"""Products of each query with each key: forward, and in the backward pass that of each gradient."""


def flops_of(computation: Computation, one: Instruction) -> int | None:
    """Returns 2 m n k of a product, 0 of what is none, and None of a kernel that does not say.

    A convolution counts the products with elements that are there, not those with padding or with
    the holes of a dilation: XLA for TPU writes batched products as dilated convolutions.
    """
    if one.opcode == "dot":
        return 2 * one.arrays[0].elements * _contracted(computation, one)
    if one.opcode == "convolution":
        return _convolution(computation, one)
    if one.opcode == "custom-call" and one.attribute(r'custom_call_target="(tpu_custom_call)"'):
        said = one.attribute(r'"cost_estimate":\{[^}]*"flops":"?(\d+)')
        return _splash(computation, one) if said is None else int(said)
    return 0


def _splash(computation: Computation, one: Instruction) -> int | None:
    """Returns the operations of Splash attention, every query against every key; None of others.

    The kernels say nothing of their cost, but their names say which pass they are.
    """
    phase = re.search(r"splash_m[hq]a_(fwd|dq|dkv)_", f"{one.name} {one.attributes}")
    operands = (computation.instructions[name].arrays for name in one.operands)
    tensors = [arrays[0] for arrays in operands if len(arrays) == 1]
    tensors = [array for array in tensors if len(array.sizes) > 2 and "f" in array.dtype]
    if phase is None or len(tensors) < 2:
        return None
    query, key = tensors[:2]
    return 2 * _SPLASH_PRODUCTS[phase[1]] * query.elements * key.sizes[-2]


def _contracted(computation: Computation, one: Instruction) -> int:
    left = computation.operand(one, 0).arrays[0]
    axes = one.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
    return math.prod(left.sizes[int(axis)] for axis in axes.split(",") if axis)


def _convolution(computation: Computation, one: Instruction) -> int:
    left, right = (computation.operand(one, index).arrays[0] for index in (0, 1))
    result = one.arrays[0]
    labels = re.match(r"(\w+)_(\w+)->(\w+)", one.attribute(r"dim_labels=([\w>-]+)") or "")
    assert labels, one.attributes
    window = _Window(one.attribute(r"window=\{([^}]*)\}") or "")
    products = result.elements * right.sizes[labels[2].index("i")]
    spatial = [label for label in labels[3] if label.isdigit()]
    for axis in spatial:
        outputs = result.sizes[labels[3].index(axis)]
        inputs = left.sizes[labels[1].index(axis)]
        met = _met(outputs, inputs, *window.of(int(axis)))
        products = products * met // outputs
    return 2 * products


class _Window:
    """The window of a convolution, as HLO writes it: `size=4x4 stride=3x3 lhs_dilate=4x4`."""

    def __init__(self, text: str):
        self.fields = dict(part.split("=") for part in text.split())

    def of(self, axis: int) -> tuple[int, int, int, int, int]:
        """Returns size, stride, lower padding, and dilations of the inputs and of the window."""

        def field(name: str, default: str) -> str:
            values = self.fields.get(name)
            return default if values is None else values.split("x")[axis]

        low = int(field("pad", "0_0").split("_")[0])
        numbers = [int(field(name, "1")) for name in ("size", "stride", "lhs_dilate", "rhs_dilate")]
        return numbers[0], numbers[1], low, numbers[2], numbers[3]


@functools.cache
def _met(
    outputs: int, inputs: int, size: int, stride: int, low: int, dilation: int, spread: int
) -> int:
    """Returns how many (output, place in the window) meet an element of the input."""
    if size == 1 and low == 0 and dilation == 1:
        return min(outputs, -(-inputs // stride))
    last = (inputs - 1) * dilation
    met = 0
    for place in range(size):
        offset = place * spread - low
        met += sum(
            0 <= offset + output * stride <= last and not (offset + output * stride) % dilation
            for output in range(outputs)
        )
    return met
