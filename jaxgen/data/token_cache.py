"""The tokens of a corpus, made once and memory-mapped after."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxgen.data.hashing import hash64
from jaxgen.data.tasks import Example
from jaxgen.errors import DataError

FORMAT = 1  # Raise it when what the files hold changes.


def cache_folder() -> Path:
    """$JAXGEN_CACHE, or ~/.cache/jaxgen."""
    return Path(os.environ.get("JAXGEN_CACHE", Path.home() / ".cache" / "jaxgen")) / "tokens"


@dataclasses.dataclass(frozen=True)
class TokenStore:
    """Examples end to end.

    Attributes:
      inputs: [tokens] int32.
      targets: [tokens] int32.
      weights: [tokens] uint8, 0 or 1.
      offsets: [examples + 1] int64, where each example begins.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """[examples] int64."""
        return np.diff(self.offsets)


def store_examples(examples: Iterable[Example]) -> TokenStore:
    """Lays examples end to end in memory."""
    examples = list(examples)
    offsets = np.cumsum([0, *(len(example.inputs) for example in examples)], dtype=np.int64)
    return TokenStore(
        inputs=np.concatenate([example.inputs for example in examples]),
        targets=np.concatenate([example.targets for example in examples]),
        weights=np.concatenate([example.weights for example in examples]).astype(np.uint8),
        offsets=offsets,
    )


def cached_store(
    identity: tuple[object, ...], make: Callable[[], Iterable[Example]], folder: Path | None = None
) -> TokenStore:
    """The store of this identity, read from the cache or made and left there.

    Args:
      identity: whatever the tokens depend on.
      make: gives the examples.
      folder: of the cache.

    Raises:
      DataError: if the cache cannot be written.
    """
    folder = cache_folder() if folder is None else folder
    target = folder / f"{hash64(FORMAT, *identity):016x}"
    if not target.exists():
        store = store_examples(make())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".making-"))
            try:
                for name, array in vars(store).items():
                    np.save(temporary / f"{name}.npy", array)
                os.rename(temporary, target)
            except OSError:
                shutil.rmtree(temporary, ignore_errors=True)
                if not target.exists():  # Else another process was faster.
                    raise
        except OSError as error:
            raise DataError(
                f"the token cache {folder} cannot be written ({error.strerror}); free some room, "
                "or point JAXGEN_CACHE at another folder."
            ) from error
    names = (field.name for field in dataclasses.fields(TokenStore))
    try:
        return TokenStore(**{n: np.load(target / f"{n}.npy", mmap_mode="r") for n in names})
    except (OSError, ValueError) as error:
        raise DataError(
            f"the token cache {target} is damaged ({error}); remove it and start again."
        ) from error
