"""A file of a frozen reference's log-probabilities of completions, made once for many runs.

It holds for each completion, known by a hash of its row's tokens, the log-probability of each of
its tokens; and of what made it, the codec's digest and the model's name, step and digest.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.data.comparison_rows import CompletionRow
from jaxgen.errors import DataError
from jaxgen.files import write_atomically

FIX = "make it with `jaxgen reference` from the run that is the reference and this data"


@dataclasses.dataclass(frozen=True)
class ReferenceFile:
    """The log-probabilities of a file that `write_reference` wrote.

    Attributes:
      path: of the file.
    """

    path: str

    @property
    def pattern(self) -> str:
        """The path, by which a run records the file with its data."""
        return self.path

    def files(self) -> tuple[str, ...]:
        """Returns the file."""
        self._content  # noqa: B018 (It raises where there is none.)
        return (self.path,)

    def check_codec(self, codec: Codec) -> None:
        """Raises DataError if the reference reads another codec's tokens."""
        made_by = self._content[1].get("codec", "")
        if made_by != codec.digest:
            raise DataError(
                f"comparisons.reference={self.path!r} is of a model with another vocabulary: its "
                f"codec has the digest {made_by!r}, and the data's {codec.digest!r}; {FIX}."
            )

    @property
    def model(self) -> str:
        """What tells the model that made it."""
        return self._content[1].get("model", "")

    def log_probabilities(self, row: CompletionRow) -> np.ndarray:
        """Returns [completion tokens] float32 of a row.

        Raises:
          DataError: if there are none, or of another number of tokens.
        """
        arrays = self._content[0]
        key, keys = row_key(row), arrays["keys"]
        place = int(np.searchsorted(keys, key))
        count = int(row.is_completion.sum())
        if place < len(keys) and keys[place] == key:
            start, stop = arrays["starts"][place : place + 2]
            if stop - start == count:
                return arrays["log_probabilities"][start:stop]
        raise DataError(
            f"comparisons.reference={self.path!r} lacks a completion of the data: it was made of "
            f"other records, another template or another train.length; {FIX}."
        )

    @functools.cached_property
    def _content(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        import safetensors

        try:
            with safetensors.safe_open(self.path, "numpy") as file:  # pyright: ignore[reportPrivateImportUsage]
                # An open file of safetensors has names, but is not iterated over.
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            keys, starts = arrays["keys"], arrays["starts"]
            values = arrays["log_probabilities"]
            kinds = [one.dtype for one in (keys, starts, values)]
            if kinds != [np.uint64, np.int64, np.float32] or len(starts) != len(keys) + 1:
                raise ValueError("its arrays are of other types or lengths")
            if len(values) != starts[-1] or (np.diff(starts) < 0).any() or starts[0] != 0:
                raise ValueError("its rows are not one after another")
        except (OSError, KeyError, ValueError, IndexError, safetensors.SafetensorError) as error:
            raise DataError(
                f"comparisons.reference={self.path!r} cannot be read as log-probabilities of a "
                f"reference ({error}); {FIX}."
            ) from error
        return arrays, metadata

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path}


def row_key(row: CompletionRow) -> np.uint64:
    """Returns a hash of a row's tokens and of where its completion is."""
    content = row.tokens.astype("<i4").tobytes() + np.packbits(row.is_completion).tobytes()
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def write_reference(
    path: Path, found: Iterable[tuple[CompletionRow, np.ndarray]], codec: Codec, model: str
) -> int:
    """Writes the log-probabilities of completions, and returns how many completions there are.

    Args:
      path: of the file, whose ending is .safetensors.
      found: rows with the [completion tokens] float32 of each.
      codec: of the tokens.
      model: what tells the model from others.

    Raises:
      DataError: if one is no finite number.
    """
    import safetensors.numpy

    by_key = {int(row_key(row)): values for row, values in found}
    keys = np.array(sorted(by_key), np.uint64)
    values = [by_key[int(key)].astype(np.float32) for key in keys]
    every = np.concatenate(values) if values else np.zeros(0, np.float32)
    if not np.isfinite(every).all():
        raise DataError(
            f"the reference has {int((~np.isfinite(every)).sum())} log-probabilities that are not "
            "finite: its parameters are damaged, or it diverged; nothing was written."
        )
    starts = np.concatenate([[0], np.cumsum([len(one) for one in values])]).astype(np.int64)
    arrays = {"keys": keys, "starts": starts, "log_probabilities": every}
    content = safetensors.numpy.save(arrays, {"codec": codec.digest, "model": model})
    write_atomically(path, content)
    return len(keys)
