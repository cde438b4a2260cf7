"""A file that a codec is made of: known by its digest, and copied beside each run."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Any, ClassVar

from jaxgen.errors import DataError
from jaxgen.files import write_atomically


class KeptFile:
    """The base of codecs of one file: frozen dataclasses with the fields `path` and `digest`.

    Attributes:
      WHAT: what the file is called in messages.
      MADE_BY: the command that makes one.
      UNDERSTOOD: what a model that was trained with one cannot do with another's.
      KEPT_FILES: the field of the path, and the name of the copy in a run.
    """

    WHAT: ClassVar[str]
    MADE_BY: ClassVar[str]
    UNDERSTOOD: ClassVar[str] = "codes"
    KEPT_FILES: ClassVar[dict[str, str]]
    path: str
    digest: str

    def read_digest(self) -> None:
        """Sets the digest to the file's, the first 16 digits of its sha256.

        Raises:
          DataError: if it cannot be read, or the configuration has another digest.
        """
        try:
            found = hashlib.sha256(pathlib.Path(self.path).read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataError(
                f"the {self.WHAT} {self.path} cannot be read ({error.strerror}); make one with "
                f"`{self.MADE_BY}`."
            ) from error
        if self.digest is not None and self.digest != found:
            raise DataError(
                f"the {self.WHAT} {self.path} has digest {found}, and the configuration "
                f"{self.digest}: a model only understands the {self.UNDERSTOOD} it was trained "
                "with. Put that file back, or train anew with this one."
            )
        object.__setattr__(self, "digest", found)

    def keep_in(self, folder: pathlib.Path) -> None:
        """Copies the file beside the run, or checks the copy that is there."""
        copy = folder / self.KEPT_FILES["path"]
        if copy.exists():
            changed: Any = self
            dataclasses.replace(changed, path=str(copy))
            return
        write_atomically(copy, pathlib.Path(self.path).read_bytes())
