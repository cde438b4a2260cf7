"""Tensors of a file that torch.save wrote, read without PyTorch and without running its pickle.

Such a file is a zip archive of uncompressed entries: a pickle that describes the tensors, and the
bytes of each storage. The pickle may name a few functions that make tensors, and nothing else.
"""

from __future__ import annotations

import collections
import io
import pathlib
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from jaxgen.errors import InterchangeError
from jaxgen.interchange.mapped import MappedTensor

_DTYPES = {
    "BFloat16Storage": ("BF16", np.dtype(ml_dtypes.bfloat16)),
    "BoolStorage": ("BOOL", np.dtype(bool)),
    "ByteStorage": ("U8", np.dtype(np.uint8)),
    "CharStorage": ("I8", np.dtype(np.int8)),
    "DoubleStorage": ("F64", np.dtype(np.float64)),
    "FloatStorage": ("F32", np.dtype(np.float32)),
    "HalfStorage": ("F16", np.dtype(np.float16)),
    "IntStorage": ("I32", np.dtype(np.int32)),
    "LongStorage": ("I64", np.dtype(np.int64)),
    "ShortStorage": ("I16", np.dtype(np.int16)),
}
DAMAGED = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, LookupError, EOFError,
    OSError, TypeError, AttributeError, OverflowError, struct.error, MemoryError,
)  # fmt: skip
"""What zipfile and pickle raise at damaged files."""
_LOCAL_HEADER = 30  # Bytes before the name in an entry of a zip archive.


def read_torch(path: pathlib.Path) -> Mapping[str, MappedTensor]:
    """Returns the tensors of a file by name; only what describes them is read.

    Raises:
      InterchangeError: if it is of an older format, damaged, or holds anything else than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            (pickled,) = (name for name in entries if name.endswith("/data.pkl"))
            folder = pickled.removesuffix("data.pkl")
            if entries[pickled].compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed")
            data = archive.read(pickled)
            _check_opcodes(data)
            found = _Reader(path, entries, folder, data).load()
    except DAMAGED as error:
        raise InterchangeError(
            f"{path} is not a whole file of PyTorch 1.6 or later ({error}); fetch it anew, or save "
            "the model with save_pretrained."
        ) from error
    except pickle.UnpicklingError as error:
        raise InterchangeError(f"{path}: {error}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(
        isinstance(tensor, MappedTensor) for tensor in found.values()
    ):
        raise InterchangeError(f"{path} holds more than tensors by name.")
    return found


def _check_opcodes(data: bytes) -> None:
    """Refuses what needs more memory than a pickle has bytes, or makes what no tensor needs."""
    for opcode, argument, _ in pickletools.genops(data):
        is_far = "PUT" in opcode.name and argument is not None and argument > len(data)
        if is_far or opcode.name.startswith(("EXT", "BYTEARRAY")):
            raise pickle.UnpicklingError(f"it has {opcode.name} {argument}, as no tensor does.")


class _Storage:
    """A storage's class in the pickle, known by its name."""

    def __init__(self, name: str):
        self.name = name


class _Reader(pickle.Unpickler):
    """An unpickler that knows tensors only."""

    def __init__(self, path, entries, folder: str, data: bytes):
        super().__init__(io.BytesIO(data))
        self._path, self._entries, self._folder = path, entries, folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _Storage(name)
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not of a tensor.")
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[pathlib.Path, str, int]:
        _, storage, key, *_ = pid
        entry = self._entries[f"{self._folder}data/{key}"]
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its tensors are compressed")
        with self._path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER)
        lengths = np.frombuffer(header[26:30], "<u2")
        first = entry.header_offset + _LOCAL_HEADER + int(lengths.sum())
        return self._path, storage.name, first


def _tensor(storage, offset: int, shape, strides, *_: Any) -> MappedTensor:
    path, name, first = storage
    kind, dtype = _DTYPES[name]
    steps = tuple(step * dtype.itemsize for step in strides)
    begin = first + offset * dtype.itemsize
    last = begin + sum((n - 1) * step for n, step in zip(shape, steps, strict=True) if n > 0)
    if min((offset, *shape, *strides)) < 0 or last + dtype.itemsize > path.stat().st_size:
        raise ValueError("a tensor lies outside of the file")
    return MappedTensor(path, kind, dtype, begin, tuple(shape), steps)
