"""Writes safetensors, one tensor at a time, to as many files as a limit asks for.

A file is eight bytes (the length of the header, little-endian), the header (JSON: of every tensor
its type, shape and place), and the tensors' bytes: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import IO, Any

import numpy as np

TYPES = {"float32": "F32", "bfloat16": "BF16"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as the header of a file describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Returns the tensor's size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


class ShardWriter:
    """Writes tensors in the order in which they were announced."""

    def __init__(
        self,
        folder: pathlib.Path,
        tensors: list[Tensor],
        max_shard_bytes: int,
        stem: str = "model",
    ):
        """Announces the tensors; the names of the files begin with `stem`."""
        self._folder = folder
        self._stem = stem
        self._shards = divide(tensors, max_shard_bytes)
        self._left = list(self._shards)
        self._left_in_shard: list[Tensor] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            assert not self._left and not self._left_in_shard, "fewer tensors than announced"
            self._write_index()

    def write(self, value: np.ndarray) -> None:
        """Writes the next tensor."""
        if not self._left_in_shard:
            if self._file is not None:
                self._file.close()
            number = len(self._shards) - len(self._left)
            self._left_in_shard = list(self._left.pop(0))
            self._file = (self._folder / self._file_name(number)).open("wb")
            self._file.write(header(self._left_in_shard))
        tensor = self._left_in_shard.pop(0)
        assert value.shape == tensor.shape and value.dtype == tensor.dtype, tensor.name
        assert self._file is not None
        self._file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def _file_name(self, number: int) -> str:
        if len(self._shards) == 1:
            return f"{self._stem}.safetensors"
        return f"{self._stem}-{number + 1:05}-of-{len(self._shards):05}.safetensors"

    def _write_index(self) -> None:
        if len(self._shards) == 1:
            return
        total = sum(tensor.num_bytes for shard in self._shards for tensor in shard)
        places = {
            tensor.name: self._file_name(number)
            for number, shard in enumerate(self._shards)
            for tensor in shard
        }
        index = {"metadata": {"total_size": total}, "weight_map": places}
        path = self._folder / f"{self._stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def divide(tensors: list[Tensor], max_shard_bytes: int) -> list[list[Tensor]]:
    """Divides tensors, in their order, where the next one would exceed the limit."""
    shards: list[list[Tensor]] = []
    size = math.inf
    for tensor in tensors:
        if size + tensor.num_bytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.num_bytes
    return shards


def header(tensors: list[Tensor]) -> bytes:
    """Returns the header of a file with these tensors, its length included."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        stop = start + tensor.num_bytes
        entries[tensor.name] = {
            "dtype": TYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # The data begins aligned.
    return len(text).to_bytes(8, "little") + text
