"""The place that a run is copied to: which checkpoints are whole there, and its files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import IO, Any

from jaxgen.data.storage import BUFFER, digest_of, filesystem, is_remote, open_binary, patiently
from jaxgen.errors import ConfigError, DataError, JaxgenError
from jaxgen.interchange.originals import FOLDER as IMPORTED
from jaxgen.json_values import check_file_name, check_shape, read_json
from jaxgen.runs.run_directory import RECORD, RunDirectory

CHECKPOINTS, MANIFESTS = "checkpoints", "mirror"
GROWING = ("history.jsonl", "metrics.jsonl")
"""Files that each checkpoint in the mirror has of its own, as they grow with training."""
NAMES = ("config.gin", "data.json", "tokenizer.*", *GROWING)
FOLDERS = ("evals", IMPORTED)
"""The other small files, and folders of them; run.json goes last."""


AT_ONCE = 2**26
"""Bytes of a file that is sent to a store in one piece; larger ones are read twice."""


class NotWholeError(JaxgenError):
    """A checkpoint in a mirror that is not what was copied there."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A checkpoint that is whole in the mirror.

    Attributes:
      step: the checkpoint's.
      rewinds: how often the run had gone back before: one with more of them is newer.
      saved: when its folder was written, in nanoseconds since 1970, which tells it from another of
        the same step.
      files: names in the mirror to sizes and digests.
    """

    step: int
    rewinds: int
    saved: int
    files: dict[str, tuple[int, str]]

    @property
    def age(self) -> tuple[int, int]:
        """What is greater for a newer one."""
        return self.rewinds, self.step


class Mirror:
    """A place that a run is copied to.

    Args:
      url: with the scheme of an object store, or a folder.

    Raises:
      DataError: if there is no library for the scheme.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/") if is_remote(url) else str(_local(url))
        self.fs, root = filesystem(self.url)
        self._root = root.rstrip("/")

    def put(self, file: pathlib.Path, name: str, tick: Callable[..., object]) -> tuple[int, str]:
        """Copies a file of this machine, and returns its size and digest.

        Args:
          file: of this machine.
          name: in the mirror.
          tick: called as parts of it have been copied.
        """
        if is_remote(self.url):
            return self._send(file, name, tick)
        target = pathlib.Path(self.url, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with open(file, "rb") as source, open(partial, "wb") as copy:
            entry = _copied(source, copy, tick)
        os.replace(partial, target)
        return entry

    def _send(self, file: pathlib.Path, name: str, tick: Callable[..., object]) -> tuple[int, str]:
        """Puts a file into an object store, whole or not at all.

        The libraries of stores read a large file themselves, in parts that they send together. A
        stream that is written to instead would leave a part as if it were whole when it is cut off.
        """
        from fsspec.callbacks import Callback

        size = file.stat().st_size
        if size > AT_ONCE:
            digest = digest_of([str(file)])
            self.fs.put_file(str(file), self._inner(name), callback=Callback(hooks={"tick": tick}))
            return size, digest
        content = file.read_bytes()
        self.fs.pipe_file(self._inner(name), content)
        return len(content), hashlib.blake2b(content, digest_size=16).hexdigest()

    def get(self, name: str, target: pathlib.Path) -> tuple[int, str]:
        """Copies an object to this machine, and returns its size and digest.

        Raises:
          FileNotFoundError: if it is not there.
          DataError: if the store cannot be read.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open_binary(f"{self.url}/{name}") as source, open(target, "wb") as copy:
                return _copied(source, copy)
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise error.__cause__ from error
            raise

    def small_files(self) -> list[str]:
        """Returns the names of the small files that are there."""

        def find() -> list[str]:
            self.fs.invalidate_cache()
            found = [self._name(path) for path in _listed(self.fs, self._root)]
            for folder in FOLDERS:
                found += [self._name(path) for path in self.fs.find(self._inner(folder))]
            return found

        return sorted(filter(is_small, patiently(self.url, find)))

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the names and sizes of all files under a folder."""
        self.fs.invalidate_cache()
        found = self.fs.find(self._inner(folder), detail=True)
        return {self._name(path): int(entry["size"]) for path, entry in found.items()}

    def steps(self) -> dict[int, bool]:
        """Returns the steps of which there is anything, and whether a manifest is there."""
        self.fs.invalidate_cache()
        found: dict[int, bool] = {}
        for folder in (CHECKPOINTS, MANIFESTS):
            for path in _listed(self.fs, self._inner(folder)):
                name = path.rstrip("/").rpartition("/")[2]
                if name.isdecimal():
                    found.setdefault(int(name), False)
        names = self.fs.find(self._inner(MANIFESTS))
        for step in found:
            found[step] = self._inner(manifest_name(step)) in names
        return found

    def whole_steps(self) -> list[int]:
        """Returns the steps of the checkpoints that are whole, ascending.

        Raises:
          DataError: if the store cannot be read.
        """
        return sorted(step for step, whole in patiently(self.url, self.steps).items() if whole)

    def manifest(self, step: int) -> Manifest:
        """Returns a checkpoint's manifest.

        Raises:
          NotWholeError: if there is none, or something else.
          DataError: if the store cannot be read.
        """
        shape = {"step": int, "rewinds": int, "saved": int, "files": _check_files(step)}
        name = manifest_name(step)
        try:
            found = self._json(name, shape, "without it the checkpoint is of no use", NotWholeError)
        except FileNotFoundError as error:
            raise NotWholeError(f"{self.url}/{name} is missing") from error
        files = {name: (size, digest) for name, (size, digest) in found["files"].items()}
        return Manifest(step, found["rewinds"], found["saved"], files)

    def write_manifest(self, manifest: Manifest) -> None:
        """Says that a checkpoint is whole."""
        with tempfile.TemporaryDirectory(prefix="jaxgen-mirror-") as folder:
            file = pathlib.Path(folder, "manifest.json")
            file.write_text(json.dumps(dataclasses.asdict(manifest), indent=1) + "\n")
            self.put(file, manifest_name(manifest.step), lambda *size, **more: None)

    def record(self) -> dict[str, Any] | None:
        """Returns the content of run.json; None if there is none.

        Raises:
          DataError: if it is damaged, or the store cannot be read.
        """
        try:
            fix = "put back a copy, or name another mirror"
            return self._json("run.json", RECORD, fix, DataError)
        except FileNotFoundError:
            return None

    def remove(self, step: int) -> None:
        """Removes a checkpoint; its manifest first, so that it is never taken for whole."""
        for name in (manifest_name(step), f"{MANIFESTS}/{step}", f"{CHECKPOINTS}/{step}"):
            self.fs.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm(self._inner(name), recursive=not name.endswith(".json"))

    def _json(self, name: str, shape: Any, fix: str, kind: type[JaxgenError]) -> Any:
        with tempfile.TemporaryDirectory(prefix="jaxgen-mirror-") as folder:
            file = pathlib.Path(folder, pathlib.PurePosixPath(name).name)
            self.get(name, file)
            try:
                return read_json(file, shape, fix, kind)
            except kind as error:
                raise kind(str(error).replace(str(file), f"{self.url}/{name}")) from error

    def _inner(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self._root}/")


def open_mirror(url: str, directory: RunDirectory) -> Mirror:
    """Returns the mirror of a run.

    Raises:
      ConfigError: if there can be none.
    """
    if not is_remote(url):
        there, here = _local(url), directory.path.resolve()
        if there.is_relative_to(here) or here.is_relative_to(there):
            raise ConfigError(
                f"execution.mirror={url!r} and the run directory {directory.path} lie in one "
                "another; name another folder, on another disk, or an object store."
            )
    try:
        return Mirror(url)
    except DataError as error:
        raise ConfigError(f"execution.mirror: {error}") from error


def manifest_name(step: int) -> str:
    """Returns the name of a checkpoint's manifest."""
    return f"{MANIFESTS}/{step}/manifest.json"


def is_small(name: str) -> bool:
    """Returns whether a name in the mirror is that of a small file of a run directory."""
    path = pathlib.PurePosixPath(name)
    if ".." in path.parts or path.name.startswith("."):
        return False
    if len(path.parts) > 1:
        return path.parts[0] in FOLDERS
    return any(path.match(pattern) for pattern in (*NAMES, "run.json"))


def _copied(
    source: IO[bytes], copy: IO[bytes], tick: Callable[..., object] | None = None
) -> tuple[int, str]:
    """Copies a stream, and returns its size and digest."""
    size, digest = 0, hashlib.blake2b(digest_size=16)
    while data := source.read(BUFFER):
        digest.update(data)
        size += copy.write(data)
        if tick is not None:
            tick()
    return size, digest.hexdigest()


def _local(url: str) -> pathlib.Path:
    return pathlib.Path(url).expanduser().resolve()


def _listed(fs: Any, folder: str) -> list[str]:
    try:
        return list(fs.ls(folder, detail=False))
    except FileNotFoundError:
        return []


def _check_files(step: int) -> Callable[[Any], None]:
    """Returns a check of a manifest's files, whose names must not lead anywhere else."""
    folders = (f"{CHECKPOINTS}/{step}/", f"{MANIFESTS}/{step}/")

    def check(files: Any) -> None:
        check_shape(files, {str: [object]})
        for name, entry in files.items():
            if not name.startswith(folders):
                raise ValueError("must name files of its own checkpoint")
            for part in name.split("/"):
                check_file_name(part)
            if len(entry) != 2 or not isinstance(entry[0], int) or not isinstance(entry[1], str):
                raise ValueError("must be sizes and digests")

    return check
