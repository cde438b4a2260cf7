"""Tensors that lie in a file as plain numbers, read when they are sliced."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib

import ml_dtypes
import numpy as np

FLOAT8 = {
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
"""Types of safetensors that numpy, and so its own reader, does not know."""


@dataclasses.dataclass(frozen=True)
class MappedTensor:
    """A tensor in a file, sliced as one of safetensors is.

    Attributes:
      path: the file.
      kind: the type, as safetensors names it.
      dtype: the type.
      offset: where its first number lies, in bytes.
      shape: its shape.
      strides: in bytes.
    """

    path: pathlib.Path
    kind: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def get_shape(self) -> tuple[int, ...]:
        """Returns the shape."""
        return self.shape

    def get_dtype(self) -> str:
        """Returns the type's name."""
        return self.kind

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)[slices]
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        size = last + self.dtype.itemsize
        memory = np.memmap(self.path, np.uint8, "r", self.offset, (size,))
        return np.array(np.ndarray(self.shape, self.dtype, memory, 0, self.strides)[slices])


def float8_tensor(path: pathlib.Path, name: str) -> MappedTensor:
    """Returns a tensor of eight-bit floats in a safetensors file that was found to be whole."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    shape, dtype = tuple(entry["shape"]), FLOAT8[entry["dtype"]]
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    first = 8 + length + entry["data_offsets"][0]
    return MappedTensor(path, entry["dtype"], dtype, first, shape, strides)
