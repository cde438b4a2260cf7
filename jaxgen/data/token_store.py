"""The tokens of a corpus, memory-mapped: made once into the cache, or prepared beforehand."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxgen.data.hashing import hash64
from jaxgen.data.parts import Example
from jaxgen.data.token_files import TokenFile, TokenWriter, read_token_file
from jaxgen.errors import DataError

FORMAT = 2  # Raise it when what the files hold changes.


def cache_folder() -> Path:
    """Returns the folder of tokens in $JAXGEN_CACHE, or in ~/.cache/jaxgen."""
    return Path(os.environ.get("JAXGEN_CACHE", Path.home() / ".cache" / "jaxgen")) / "tokens"


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """Examples end to end, in one file or several; picklable, opened where it is used.

    Attributes:
      places: (folder, name) of each token file, in order.
    """

    places: tuple[tuple[str, str], ...]

    @functools.cached_property
    def _files(self) -> list[TokenFile]:
        return [read_token_file(Path(folder), name) for folder, name in self.places]

    @functools.cached_property
    def _first_examples(self) -> np.ndarray:
        return np.cumsum([0, *(len(file.offsets) - 1 for file in self._files)])

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Returns the number of tokens of each example, [examples] int64, without begin and end."""
        return np.concatenate([np.diff(file.offsets) for file in self._files])

    def __getstate__(self) -> dict[str, object]:
        return {"places": self.places}

    def example(self, index: int, start: int = 0, stop: int | None = None) -> Example:
        """Returns tokens [start, stop) of an example."""
        place = int(np.searchsorted(self._first_examples, index, side="right")) - 1
        file = self._files[place]
        local = index - int(self._first_examples[place])
        begin, end = int(file.offsets[local]), int(file.offsets[local + 1])
        cut = slice(begin + start, end if stop is None else min(begin + stop, end))
        flags = None if file.flags is None else np.asarray(file.flags[cut])
        return Example(file.tokens[cut].astype(np.int32), flags, file.media_of(local))


def cached_store(
    identity: tuple[object, ...],
    vocab_size: int,
    make: Callable[[], Iterable[Example]],
    folder: Path | None = None,
) -> TokenStore:
    """Returns the store of this identity, read from the cache or made and left there.

    Args:
      identity: all that the tokens depend on.
      vocab_size: the codec's.
      make: yields the examples.
      folder: the cache; None: `cache_folder()`.

    Raises:
      DataError: if the cache cannot be written, or holds a damaged file.
    """
    folder = cache_folder() if folder is None else folder
    target = folder / f"{hash64(FORMAT, *identity):016x}"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder / f".{target.name}.lock"):
                if not target.exists():
                    _make(target, vocab_size, make)
        except OSError as error:
            raise DataError(
                f"the token cache {folder} cannot be written ({error.strerror}); free some room, "
                "or point JAXGEN_CACHE at another folder."
            ) from error
    try:
        read_token_file(target, "tokens")
    except DataError as error:
        raise DataError(
            f"the token cache {target} is damaged ({error}); remove it and start again."
        ) from error
    return TokenStore(((str(target), "tokens"),))


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Lets one process of this machine in at a time; data workers need the same epoch at once."""
    with open(lock, "w") as handle:
        # A file system that has no locks only makes them do the same work.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    lock.unlink(missing_ok=True)


def _make(target: Path, vocab_size: int, make: Callable[[], Iterable[Example]]) -> None:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        with TokenWriter(temporary, "tokens", vocab_size) as writer:
            for example in make():
                writer.add(example.ids, example.flags, example.media)
        os.rename(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError) or not target.exists():
            raise  # Else another process was faster.
