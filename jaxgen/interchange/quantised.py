"""Quantised tensors as the numbers they stand for, computed slice by slice.

fp8, int8   each number times the scale of its block, row or tensor (DeepSeek-V3, Qwen 3's FP8
            files, fbgemm, compressed-tensors, ModelOpt; LLM.int8 of bitsandbytes)
mxfp4       two numbers of four bits in a byte, 32 of which share a power of two (gpt-oss)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.errors import InterchangeError
from jaxgen.interchange.tables import Values

METHODS = ("bitsandbytes", "compressed-tensors", "fbgemm_fp8", "fp8", "modelopt", "mxfp4")
_EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "I8")
_SCALES = {"weight_scale_inv": 1.0, "weight_scale": 1.0, "SCB": 1 / 127}
"""What follows a layer's name in that of its scales, and the factor on them."""
_UNUSED = ("input_scale", "activation_scale", "input_scale_ub", "weight_format", "weight_scale_2")
_FOUR_BITS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_FOUR_BITS = np.concatenate([_FOUR_BITS, -_FOUR_BITS])
_MX_BLOCK = 32
MX_PARTS = ("blocks", "scales")


def check_method(values: Values) -> str | None:
    """Returns how the tensors that a config.json describes are quantised, or None.

    Raises:
      InterchangeError: naming a method that is not supported.
    """
    settings = values.get("quantization_config")
    if settings is None:
        return None
    settings = settings if isinstance(settings, dict) else {"quant_method": settings}
    method = settings.get("quant_method")
    if method not in METHODS or settings.get("load_in_4bit"):
        raise InterchangeError(
            f"config.json says quantization_config={settings!r}; jaxgen reads the methods "
            f"{', '.join(METHODS)}, of eight bits or MXFP4. Export the checkpoint as bfloat16 "
            "first and remove the key."
        )
    return method


def dequantised(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns tensors by name, quantised ones as the numbers that they stand for.

    Raises:
      InterchangeError: if scales do not fit their tensor.
    """
    found = dict(tensors)
    for name, tensor in tensors.items():
        layer, _, last = name.rpartition(".")
        if last in _SCALES:
            weight = tensors.get(f"{layer}.weight")
            if weight is not None and weight.get_dtype() in _EIGHT_BITS:
                found[f"{layer}.weight"] = Scaled.of(name, weight, tensor, _SCALES[last])
                del found[name]
        elif last in _UNUSED:
            found.pop(name)
        elif name.endswith("_blocks") and f"{name[:-7]}_scales" in tensors:
            whole = name.removesuffix("_blocks")
            shape, groups = (tuple(tensors[f"{whole}_{part}"].get_shape()) for part in MX_PARTS)
            if len(shape) != 4 or shape[:3] != groups or shape[3] * 2 != _MX_BLOCK:
                raise InterchangeError(f"{name} {list(shape)} has scales of {list(groups)}.")
            found[whole] = Mxfp4(tensor, tensors[f"{whole}_scales"])
            del found[name], found[f"{whole}_scales"]
    return found


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A tensor of eight-bit numbers times their scales.

    Attributes:
      numbers: the tensor.
      scales: as many axes.
      blocks: along each axis, how many numbers share a scale.
    """

    numbers: Any
    scales: np.ndarray
    blocks: tuple[int, ...]

    @staticmethod
    def of(name: str, numbers: Any, scales: Any, factor: float) -> Scaled:
        """Finds the blocks from the shapes; those of neither one number nor a whole axis are 128.

        Raises:
          InterchangeError: if they do not fit.
        """
        shape, given = tuple(numbers.get_shape()), tuple(scales.get_shape())
        if len(given) > len(shape):
            raise InterchangeError(f"{name} {list(given)} does not scale one of {list(shape)}.")
        values = np.asarray(scales[tuple(slice(None) for _ in given)], np.float32) * factor
        values = values.reshape(given + (1,) * (len(shape) - len(given)))
        blocks = tuple(
            size if count == 1 else 1 if count == size else 128
            for size, count in zip(shape, values.shape, strict=True)
        )
        if any(
            -(-size // block) != count
            for size, block, count in zip(shape, blocks, values.shape, strict=True)
        ):
            raise InterchangeError(
                f"{name} {list(given)} does not scale a tensor of {list(shape)} in blocks of 128."
            )
        return Scaled(numbers, values, blocks)

    def get_shape(self) -> tuple[int, ...]:
        """Returns the shape."""
        return tuple(self.numbers.get_shape())

    def get_dtype(self) -> str:
        """Returns the type of what is read."""
        return "F32"

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        ranges = (range(*one.indices(n)) for one, n in zip(slices, self.get_shape(), strict=True))
        places = [
            np.asarray(indices) // block for indices, block in zip(ranges, self.blocks, strict=True)
        ]
        return np.asarray(self.numbers[slices]).astype(np.float32) * self.scales[np.ix_(*places)]


@dataclasses.dataclass(frozen=True)
class Mxfp4:
    """Experts' matrices [experts, inputs, outputs] in four bits.

    Attributes:
      blocks: [experts, outputs, inputs / 32, 16] bytes, the lower half of each first.
      scales: [experts, outputs, inputs / 32] exponents of 2, raised by 127.
    """

    blocks: Any
    scales: Any

    def get_shape(self) -> tuple[int, ...]:
        """Returns the shape."""
        experts, outputs, groups, _ = self.blocks.get_shape()
        return experts, groups * _MX_BLOCK, outputs

    def get_dtype(self) -> str:
        """Returns the type of what is read."""
        return "F32"

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        experts, inputs, outputs = slices
        first, last, _ = inputs.indices(self.get_shape()[1])
        start = first // _MX_BLOCK
        groups = slice(start, -(-last // _MX_BLOCK))
        packed = self.blocks[experts, outputs, groups, slice(None)]
        exponents = self.scales[experts, outputs, groups].astype(np.int32) - 127
        numbers = np.stack([_FOUR_BITS[packed & 15], _FOUR_BITS[packed >> 4]], axis=-1)
        numbers = np.ldexp(numbers.reshape(*packed.shape[:3], _MX_BLOCK), exponents[..., None])
        numbers = numbers.reshape(*numbers.shape[:2], -1)
        cut = numbers[..., first - start * _MX_BLOCK : last - start * _MX_BLOCK]
        return cut.swapaxes(1, 2)
