"""The files of evaluations, written whole, and later where a full disk refuses them."""

from __future__ import annotations

import pathlib
import warnings

from jaxgen.errors import CheckpointError, JaxgenWarning
from jaxgen.files import write_atomically


class EvaluationFiles:
    """Writes evaluations in the course of a run; those that cannot be are kept for the next one."""

    def __init__(self):
        self._unwritten: dict[pathlib.Path, str] = {}

    def write(self, path: pathlib.Path, text: str) -> None:
        """Writes a file, after those that could not be written before."""
        self._unwritten[path] = text
        try:
            self.close()
        except CheckpointError as error:
            warnings.warn(f"{error} It is kept until there is room.", JaxgenWarning, stacklevel=2)

    def close(self) -> None:
        """Writes what could not be written before.

        Raises:
          CheckpointError: if it still cannot.
        """
        for path in list(self._unwritten):
            write_atomically(path, self._unwritten[path])
            del self._unwritten[path]
