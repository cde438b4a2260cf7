"""The files of a checkpoint: config.json, and tensors in one safetensors file or several.

Only headers are read until a slice is asked for.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - numpy then knows bfloat16
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxgen.errors import InterchangeError
from jaxgen.interchange.layouts import Fetch

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
READABLE = ("F64", "F32", "F16", "BF16")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns an object from a JSON file.

    Raises:
      InterchangeError: if it cannot be read or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InterchangeError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InterchangeError(f"{path} should be a JSON object, not {type(found).__name__}.")
    return found


class TensorFiles:
    """The tensors of a folder by name; a context manager, which closes the files.

    Attributes:
      folder: the path.
      shapes: the shape of every tensor, by its name after renaming.
      dtypes: likewise, as the files name them.
    """

    def __init__(self, folder: pathlib.Path, renames: tuple[tuple[str, str], ...] = ()):
        """Opens all files of the folder and reads their headers.

        Raises:
          InterchangeError: if a file is missing or damaged, or is not what the index says.
        """
        self.folder = folder
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._tensors: dict[str, Any] = {}
        self.dtypes: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            for file, listed in _files(folder).items():
                self._open(stack, folder / file, listed, renames)
            self._files = stack.pop_all()

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tensors.clear()
        self._files.close()

    def fetch(self, name: str) -> Fetch:
        """Returns a function from slices of a tensor to their values, read when it is called."""
        tensor = self._tensors[name]

        def read(slices: tuple[slice, ...]) -> np.ndarray:
            try:
                return tensor[slices]
            except SafetensorError as error:
                raise InterchangeError(
                    f"the tensor {name} in {self.folder} cannot be read: {error}."
                ) from error

        return read

    def _open(
        self,
        stack: contextlib.ExitStack,
        path: pathlib.Path,
        listed: set[str] | None,
        renames: tuple[tuple[str, str], ...],
    ) -> None:
        try:
            file = stack.enter_context(safe_open(path, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise InterchangeError(
                f"{path} is missing or not a whole safetensors file ({error}); fetch it again."
            ) from error
        names = set(file.keys())
        if listed is not None and (missing := sorted(listed - names)):
            raise InterchangeError(f"{path} lacks {_some(missing)}, which {INDEX} places there.")
        for name in sorted(names if listed is None else listed):
            known, tensor = renamed(name, renames), file.get_slice(name)
            if known in self._tensors:
                raise InterchangeError(f"{path} has {name}, but {known} was there already.")
            self._tensors[known] = tensor
            self.shapes[known] = tuple(tensor.get_shape())
            self.dtypes[known] = tensor.get_dtype()


def check_tensors(
    files: TensorFiles, expected: Mapping[str, tuple[int, ...]], may_have: tuple[str, ...]
) -> None:
    """Compares the tensors of a folder with those that a model needs.

    Args:
      files: the folder's.
      expected: the shapes of those needed, by name.
      may_have: patterns of further names that are allowed.

    Raises:
      InterchangeError: naming what is missing, left over, or of another shape or type.
    """
    shapes = files.shapes
    missing = [name for name in expected if name not in shapes]
    surplus = [
        name
        for name in shapes
        if name not in expected and not any(re.fullmatch(pattern, name) for pattern in may_have)
    ]
    unlike = [
        f"{name} {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    unread = [
        f"{name} {files.dtypes[name]}"
        for name in expected
        if name in shapes and files.dtypes[name] not in READABLE
    ]
    wrong = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("missing", missing),
            ("unknown to the model", surplus),
            ("of another shape", unlike),
            (f"quantised, where jaxgen reads {', '.join(READABLE)}", unread),
        )
        if names
    ]
    if wrong:
        raise InterchangeError(
            f"the tensors in {files.folder} are not those that its {CONFIG} describes.\n  "
            + "\n  ".join(wrong)
        )


def renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    """Returns a tensor's present name."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _files(folder: pathlib.Path) -> dict[str, set[str] | None]:
    """Maps file names to the tensors that the index lists there; None where there is no index."""
    if (folder / INDEX).exists():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise InterchangeError(f"{folder / INDEX} has no weight_map.")
        files: dict[str, set[str] | None] = {}
        for name, file in places.items():
            if pathlib.PurePath(file).name != file:
                raise InterchangeError(f"{folder / INDEX} places {name} outside: {file!r}.")
            listed = files.setdefault(file, set())
            assert listed is not None
            listed.add(name)
        return files
    if not (folder / WEIGHTS).exists():
        raise InterchangeError(
            f"{folder} has neither {WEIGHTS} nor {INDEX}; jaxgen reads safetensors only, so "
            "save checkpoints of other formats with save_pretrained first."
        )
    return {WEIGHTS: None}


def _some(names: list[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
