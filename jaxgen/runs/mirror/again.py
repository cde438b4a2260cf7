"""Fetches a checkpoint again that turns out to be damaged here, while a run starts."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

from jaxgen.data.storage import digest_of
from jaxgen.errors import DataError
from jaxgen.runs.history import read_rewinds
from jaxgen.runs.mirror.fetching import TEMPORARY, fetch_files, mirror_event, put_in_place
from jaxgen.runs.mirror.store import CHECKPOINTS, Manifest, Mirror, NotWholeError, open_mirror
from jaxgen.runs.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class MirrorCopies:
    """The checkpoints of a run that its mirror has too; use it on the main process.

    Attributes:
      url: of the mirror.
      directory: of the run, locked.
    """

    url: str
    directory: RunDirectory

    def differs(self, step: int) -> bool:
        """Returns whether the checkpoint here is surely not what was copied."""
        try:
            manifest = self._manifest(open_mirror(self.url, self.directory), step)
            return any(self._differs(name, *manifest.files[name]) for name in _names(manifest))
        except (DataError, NotWholeError, OSError):
            return False

    def fetch(self, step: int) -> list[dict[str, Any]]:
        """Puts the mirror's copy of a checkpoint that is not here any more into its place.

        Returns:
          An event that tells whether this went well: no failure ends the run, which may have an
          older checkpoint.
        """
        temporary = self.directory.path / TEMPORARY
        try:
            mirror = open_mirror(self.url, self.directory)
            manifest = self._manifest(mirror, step)
            fetch_files(mirror, manifest, _names(manifest), temporary)
            put_in_place(temporary / CHECKPOINTS / str(step), self.directory, manifest)
        except (DataError, NotWholeError, OSError) as error:
            text = str(error).rstrip(".")
            return [mirror_event(f"no copy of step {step} is taken from {self.url}: {text}.")]
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return [mirror_event(f"the checkpoint of step {step} was fetched again from {self.url}.")]

    def _manifest(self, mirror: Mirror, step: int) -> Manifest:
        """Returns the manifest of a step; NotWholeError if it is of another way to that step."""
        manifest = mirror.manifest(step)
        if manifest.rewinds != len(read_rewinds(self.directory.history_file)):
            raise NotWholeError("the run went back since it was copied")
        return manifest

    def _differs(self, name: str, size: int, digest: str) -> bool:
        file = self.directory.path / name
        if not file.is_file() or file.stat().st_size != size:
            return True
        return digest_of([str(file)]) != digest


def _names(manifest: Manifest) -> list[str]:
    """Returns the files of the checkpoint itself: its rows are those that are here."""
    return [name for name in manifest.files if name.startswith(f"{CHECKPOINTS}/")]
