"""The files of a checkpoint: config.json, and tensors in one file or several.

Only headers are read until a slice is asked for.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - numpy then knows bfloat16
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxgen import json_values
from jaxgen.errors import InterchangeError
from jaxgen.interchange.layouts import Fetch
from jaxgen.interchange.mapped import FLOAT8, float8_tensor
from jaxgen.interchange.quantised import dequantised
from jaxgen.interchange.torch_files import read_torch

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DIFFUSERS_STEM = "diffusion_pytorch_model"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
TOKENIZER = "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
READABLE = ("F64", "F32", "F16", "BF16")


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns an object from a JSON file.

    Raises:
      InterchangeError: if it cannot be read or is no object.
    """
    try:
        return json_values.read_json(path, {}, "fetch it again", InterchangeError)
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read ({error.strerror}).") from error


def find_revision(folder: pathlib.Path, revision: str | None) -> pathlib.Path:
    """Returns the folder of one revision of a checkpoint, such as Pythia's "step1000".

    Revisions are folders inside `folder`, or `folder` is one of huggingface_hub's cache
    (models--NAME), whose revision is "main" where none is named.

    Raises:
      InterchangeError: naming the revisions that are there.
    """
    refs, snapshots = folder / "refs", folder / "snapshots"
    if revision is None and (not snapshots.is_dir() or (folder / CONFIG).exists()):
        return folder
    name = revision or "main"
    if (refs / name).is_file():
        commit = (refs / name).read_text(encoding="utf-8", errors="replace").strip()
        try:
            json_values.check_file_name(commit)
        except ValueError as error:
            raise InterchangeError(f"{refs / name} says {commit!r:.40}, and {error}.") from error
        return snapshots / commit
    for place in (folder / name, snapshots / name):
        if (place / CONFIG).exists():
            return place
    known = {str(file.relative_to(refs)) for file in refs.rglob("*") if file.is_file()}
    known |= {path.parent.name for path in folder.glob(f"*/{CONFIG}")}
    there = f"there are {_some(sorted(known))}" if known else "there is none"
    raise InterchangeError(f"{folder} has no revision {name!r}; {there}.")


class TensorFiles:
    """The tensors of a folder by name; a context manager, which closes the files.

    Attributes:
      folder: the path.
      shapes: the shape of every tensor, by its name after renaming.
      dtypes: likewise, as the files name them.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        renames: tuple[tuple[str, str], ...] = (),
        file: str | None = None,
    ):
        """Opens all files of the folder, or the one named, and reads their headers.

        Raises:
          InterchangeError: if a file is missing or damaged, or is not what the index says.
        """
        self.folder = folder
        self._tensors: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            files = _files(folder) if file is None else {file: None}
            for one, listed in files.items():
                self._open(stack, folder / one, listed, renames)
            self._tensors = dequantised(self._tensors)
            self._files = stack.pop_all()
        self.shapes = {name: tuple(tensor.get_shape()) for name, tensor in self._tensors.items()}
        self.dtypes = {name: tensor.get_dtype() for name, tensor in self._tensors.items()}

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
        if path.suffix == ".bin":
            torch_tensors = read_torch(path)
            names, get_slice = set(torch_tensors), torch_tensors.__getitem__
        else:
            try:
                file = stack.enter_context(safe_open(path, framework="numpy"))
            except (SafetensorError, OSError) as error:
                raise InterchangeError(
                    f"{path} is missing or not a whole safetensors file ({error}); fetch it again."
                ) from error
            names, get_slice = set(file.keys()), file.get_slice
        if listed is not None and (missing := sorted(listed - names)):
            raise InterchangeError(f"{path} lacks {_some(missing)}, which the index places there.")
        for name in sorted(names if listed is None else listed):
            known, tensor = renamed(name, renames), get_slice(name)
            if path.suffix != ".bin" and tensor.get_dtype() in FLOAT8:
                tensor = float8_tensor(path, name)
            if known in self._tensors:
                raise InterchangeError(f"{path} has {name}, but {known} was there already.")
            self._tensors[known] = tensor


def check_tensors(
    files: TensorFiles,
    expected: Mapping[str, tuple[int, ...]],
    may_have: tuple[str, ...],
    described_in: str = CONFIG,
) -> None:
    """Compares the tensors of a folder with those that a model needs.

    Args:
      files: the folder's.
      expected: the shapes of those needed, by name.
      may_have: patterns of further names that are allowed.
      described_in: the file that says what is needed.

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
            f"the tensors in {files.folder} are not those that its {described_in} describes.\n  "
            + "\n  ".join(wrong)
        )


def renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    """Returns a tensor's present name."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _files(folder: pathlib.Path) -> dict[str, set[str] | None]:
    """Maps file names to the tensors that an index lists there; None where there is no index."""
    diffusers = f"{DIFFUSERS_STEM}.safetensors"
    for index, single in (
        (INDEX, WEIGHTS),
        (f"{diffusers}.index.json", diffusers),
        (TORCH_INDEX, TORCH_WEIGHTS),
    ):
        if (folder / index).exists():
            return _indexed(folder / index)
        if (folder / single).exists():
            return {single: None}
    raise InterchangeError(
        f"{folder} has none of {WEIGHTS}, {INDEX}, {TORCH_WEIGHTS}, {TORCH_INDEX} and "
        f"{diffusers}; jaxgen reads safetensors and PyTorch's files, so save checkpoints of other "
        "formats with save_pretrained first."
    )


def _indexed(index: pathlib.Path) -> dict[str, set[str] | None]:
    found = read_json(index)
    try:
        json_values.check_shape(found, {"weight_map": {str: json_values.check_file_name}})
    except ValueError as error:
        raise InterchangeError(f"{index}: {error}.") from error
    files: dict[str, set[str] | None] = {}
    for name, file in found["weight_map"].items():
        listed = files.setdefault(file, set())
        assert listed is not None
        listed.add(name)
    return files


def _some(names: list[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
