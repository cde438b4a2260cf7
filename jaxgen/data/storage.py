"""Files on this machine and in object stores: found, measured, and read in spite of bad lines.

Paths with a scheme (s3://, gs://, https://, ...) go through fsspec. A remote read that fails is
tried again with growing pauses; what cannot get better, a missing object or denied access, fails
at once.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from jaxgen.data.hashing import hash64
from jaxgen.errors import ConfigError, DataError

T = TypeVar("T")
logger = logging.getLogger(__name__)
ATTEMPTS = 5
"""At a remote read, unless $JAXGEN_READ_ATTEMPTS says another number."""
FIRST_PAUSE = 0.5
"""Seconds after the first failure, or $JAXGEN_READ_PAUSE; each later pause is twice as long."""
CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""The errors of the libraries of S3 and Google Cloud where no credentials are found."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
BUFFER = 2**20
SAMPLES, SAMPLE_BYTES = 64, 2**16
"""The parts of a large file that its digest covers; one of 4 MB is covered whole."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def is_remote(path: str) -> bool:
    """Returns whether a path names an object store or a server."""
    return "://" in path


def matching_files(pattern: str, endings: tuple[str, ...]) -> tuple[str, list[str]]:
    """Returns the files of a file name, a folder or a glob, sorted, and the folder they are under.

    Args:
      pattern: a file, a folder (its files with one of the endings, at any depth) or a glob; local
        or with a scheme.
      endings: of the files of a folder.

    Raises:
      DataError: if nothing matches.
    """
    find = _remote_matches if is_remote(pattern) else _local_matches
    root, candidates = find(pattern, endings)
    if not candidates:
        where = f" (from {Path.cwd()}; globs may use ** for any depth)"
        raise DataError(
            f"{pattern!r} matches no file; name a file, or a folder with files ending in "
            f"{', '.join(endings)}{'' if is_remote(pattern) else where}."
        )
    return root, sorted(candidates)


def open_binary(path: str) -> BinaryIO:
    """Opens a file's bytes, seekable.

    Raises:
      DataError: naming the path, if it cannot be opened; reading on raises it too.
    """
    if is_remote(path):
        return io.BufferedReader(_RemoteFile(path), BUFFER)
    try:
        return open(path, "rb", buffering=BUFFER)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def size_of(path: str) -> int:
    """Returns the bytes of a file."""
    if is_remote(path):
        fs, inner = filesystem(path)
        return int(patiently(path, lambda: fs.size(inner)))
    return os.path.getsize(path)


def stamp_of(path: str) -> str:
    """Returns a text that changes when the file does."""
    if not is_remote(path):
        stat = os.stat(path)
        return f"{stat.st_size} {stat.st_mtime_ns}"
    fs, inner = filesystem(path)
    info = patiently(path, lambda: fs.info(inner))
    marks = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated")
    return f"{info.get('size')} {[str(info[mark]) for mark in marks if mark in info]}"


def modified_at(path: str) -> float:
    """Returns when a file was written, in seconds since 1970."""
    if not is_remote(path):
        return os.stat(path).st_mtime
    fs, inner = filesystem(path)
    return patiently(path, lambda: fs.modified(inner)).timestamp()


def digest_of(files: Sequence[str]) -> str:
    """Returns a digest of the bytes of files, one after another."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        with open_binary(file) as stream:
            while data := stream.read(2**20):
                digest.update(data)
    return digest.hexdigest()


def root_of(pattern: str) -> str:
    """Returns the folder that all files of a pattern lie in."""
    plain = pattern if is_remote(pattern) else str(Path(pattern).expanduser())
    magic = [plain.index(mark) for mark in "*?[" if mark in plain]
    plain = plain[: min(magic, default=len(plain))]
    is_folder = not magic and (is_remote(pattern) or os.path.isdir(plain))
    return plain if is_folder else plain.rpartition("/")[0]


def sampled_digest(file: str) -> str:
    """Returns a digest of a file's size and content; of a large one, of parts all over it.

    A remote file is known by its store's own mark.
    """
    if is_remote(file):
        return stamp_of(file)
    size = size_of(file)
    found = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open_binary(file) as stream:
        step = max(size // SAMPLES, SAMPLE_BYTES)
        for place in range(0, size, step):
            stream.seek(place)
            found.update(stream.read(SAMPLE_BYTES))
        stream.seek(max(size - SAMPLE_BYTES, 0))
        found.update(stream.read(SAMPLE_BYTES))
    return found.hexdigest()


def local_copy(path: str, folder: Path) -> str:
    """Returns a local path itself, or that of a copy in a folder, made if it is not there."""
    if not is_remote(path):
        return path
    target = folder / f"{hash64(path, stamp_of(path)):016x}{Path(path).suffix}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".copy-")
        try:
            with os.fdopen(handle, "wb") as copy, open_binary(path) as original:
                shutil.copyfileobj(original, copy, BUFFER)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return str(target)


class _RemoteFile(io.RawIOBase):
    """A remote file that is opened again where a read fails."""

    def __init__(self, path: str):
        self._path, self._position, self._file = path, 0, None
        self._fs, self._inner = filesystem(path)
        self._size = size_of(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        def read() -> bytes:
            try:
                if self._file is None:
                    self._file = self._fs.open(self._inner, "rb")
                self._file.seek(self._position)
                data = self._file.read(len(buffer))
            except BaseException:
                self._file = None
                raise
            expected = min(len(buffer), self._size - self._position)
            if len(data) < expected:
                self._file = None
                raise OSError(f"{len(data)} of {expected} bytes came")
            return data

        data = patiently(self._path, read)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()


def patiently(path: str, action: Callable[[], T]) -> T:
    """Returns what a read of a path does, retried where it fails; raises DataError in the end."""
    attempts = max(1, int(_from_environment("JAXGEN_READ_ATTEMPTS", ATTEMPTS)))
    pause = _from_environment("JAXGEN_READ_PAUSE", FIRST_PAUSE)
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except FINAL as error:
            # Stores say it in words of their own, such as "b/bucket/o/name".
            is_missing = isinstance(error, FileNotFoundError)
            reason = "there is no such object" if is_missing else _reason(error)
            raise DataError(f"{path} cannot be read: {reason}.") from error
        except Exception as error:
            if type(error).__name__ in CREDENTIALS:
                raise DataError(
                    f"{path} cannot be read: {_reason(error)}. Set the store's credentials as for "
                    "its own tools, such as $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY or "
                    "$GOOGLE_APPLICATION_CREDENTIALS."
                ) from error
            # Stores raise errors of many libraries; the final ones are caught above.
            if attempt == attempts:
                raise DataError(
                    f"{path} cannot be read: {_reason(error)} (tried {attempts} times; "
                    "$JAXGEN_READ_ATTEMPTS sets how often)."
                ) from error
            # Hosts that failed together should not come back together.
            spread = 0.5 + hash64(path, os.getpid(), attempt) / 2**64
            time.sleep(pause * 2 ** (attempt - 1) * spread)
    raise AssertionError("one of the attempts returned or raised")


def _from_environment(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"${name}={text!r} must be a number, such as {default}.") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].rstrip(".")


def filesystem(path: str) -> tuple[Any, str]:
    """Returns fsspec's file system of a path, and the path in it.

    Raises:
      DataError: if there is none of its scheme, with what to install.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(path)
    except ImportError as error:
        scheme = path.split("://")[0]
        extra = EXTRAS.get(scheme)
        cure = f'pip install "jaxgen[{extra}]"' if extra else f"pip install {error.name}"
        raise DataError(f"{path} needs a library that is not installed: {cure}.") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error


def _remote_matches(pattern: str, endings: tuple[str, ...]) -> tuple[str, list[str]]:
    fs, inner = filesystem(pattern)
    scheme = pattern.split("://")[0]

    def find() -> tuple[str, list[str]]:
        if glob.has_magic(inner):
            plain = inner[: min(inner.index(mark) for mark in "*?[" if mark in inner)]
            return plain.rpartition("/")[0], [str(name) for name in fs.glob(inner)]
        if fs.isfile(inner):
            return inner.rpartition("/")[0], [inner]
        found = fs.find(inner) if fs.exists(inner) else []
        named = [name for name in found if name.endswith(endings)]
        return inner.rstrip("/"), _without_hidden(inner.rstrip("/"), named)

    root, found = patiently(pattern, find)
    return f"{scheme}://{root}", [f"{scheme}://{name}" for name in found]


def _without_hidden(root: str, files: list[str]) -> list[str]:
    """Returns the files of a folder but for those whose name, or folder's, begins with a dot."""
    shown = [file for file in files if "/." not in file.removeprefix(root)]
    if len(shown) < len(files):
        _say_hidden(root, len(files) - len(shown))
    return shown


@functools.cache
def _say_hidden(root: str, count: int) -> None:
    """Says it once in a process, as a folder is looked through several times."""
    logger.warning("%s: %d hidden file(s) left out (names that begin with a dot)", root, count)


def _local_matches(pattern: str, endings: tuple[str, ...]) -> tuple[str, list[str]]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return str(path.parent), [str(path)]
    if path.is_dir():
        named = [file for file in path.rglob("*") if file.name.endswith(endings) and file.is_file()]
        return str(path), _without_hidden(str(path), [str(file) for file in named])
    plain = []
    for part in path.parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    root = Path(*plain) if plain else Path()
    names = glob.glob(str(path), recursive=True)
    return str(root), [name for name in names if os.path.isfile(name)]
