"""Copies to the mirror what lies in a run directory, and removes there what is no longer kept."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

from jaxgen.errors import DataError
from jaxgen.files import close_cut_row
from jaxgen.runs.history import read_rewinds
from jaxgen.runs.mirror.store import (
    CHECKPOINTS,
    FOLDERS,
    GROWING,
    MANIFESTS,
    NAMES,
    Manifest,
    Mirror,
    NotWholeError,
)
from jaxgen.runs.run_directory import RunDirectory


class Copier:
    """Knows what of a run directory is in its mirror.

    What is to be copied follows from what lies in the run directory at that moment, so that nothing
    queues: the newest checkpoint goes first, and one that was removed meanwhile is forgotten.

    Args:
      mirror: where to.
      directory: of the run.
      keep_every: checkpoints of every so many steps stay in the mirror; 0: none does for that;
        None: nothing is removed there.
      alive: called whenever something has been copied.
      note: is given what a person should know.

    Attributes:
      is_abandoned: set it to end a copy between two files.
    """

    def __init__(
        self,
        mirror: Mirror,
        directory: RunDirectory,
        keep_every: int | None,
        alive: Callable[..., object],
        note: Callable[[str], object],
    ):
        self.mirror, self.directory = mirror, directory
        self.is_abandoned = False
        self._keep_every, self._alive, self._note = keep_every, alive, note
        self._there: dict[int, int] = {}
        self._small: dict[str, tuple[int, int]] = {}
        self._sent: dict[tuple[int, str], tuple[int, str]] = {}
        self._is_known = self._is_behind = False

    def missing(self) -> list[int]:
        """Returns the steps, ascending, of the checkpoints that are here and not in the mirror."""
        steps = self.directory.saved_steps()
        return [step for step in steps if self._there.get(step) != self._saved(step)]

    def copy_what_is_new(self, is_last: bool = False) -> None:
        """Copies what the mirror lacks, the newest checkpoint first.

        Args:
          is_last: whether to look at the small files too, where no checkpoint is new.

        Raises:
          Exception: of any kind, where the store cannot be written; call it again.
        """
        if not self._is_known:
            there, whole = {}, self.mirror.steps()
            for step in whole.keys() & {*self.directory.saved_steps()}:
                there[step] = 0
                with contextlib.suppress(NotWholeError):
                    there[step] = self.mirror.manifest(step).saved
            self._copy_small_files()
            self._there, self._is_known = there, True
        while not self.is_abandoned and (missing := self.missing()):
            if self._copy(missing[-1]):
                self._copy_small_files()
                self._remove_old()
        if is_last:
            self._copy_small_files()

    def _saved(self, step: int) -> int | None:
        try:
            return os.stat(self._folder(step)).st_mtime_ns
        except FileNotFoundError:
            return None

    def _folder(self, step: int) -> pathlib.Path:
        return self.directory.checkpoints / str(step)

    def _copy(self, step: int) -> bool:
        """Copies a checkpoint; returns False if it was removed here meanwhile."""
        folder, saved = self._folder(step), self._saved(step)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        try:
            if saved is None:
                raise FileNotFoundError(folder)
            manifest = self._copy_files(step, saved, files)
        except (OSError, DataError):
            if folder.exists() and all(file.exists() for file in files):
                raise
            self.mirror.remove(step)
            self._sent = {}
            if not self._is_behind:
                self._is_behind = True
                self._note(
                    f"the checkpoint of step {step} was removed here before it was whole in "
                    f"{self.mirror.url}, which is slower than checkpoints are made; raise "
                    "execution.checkpoint_every or execution.keep_checkpoints."
                )
            return False
        self.mirror.write_manifest(manifest)
        self._there[step], self._sent = saved, {}
        return True

    def _copy_files(self, step: int, saved: int, files: list[pathlib.Path]) -> Manifest:
        mirror = self.mirror
        if step in self._there:  # Another one of this step, or a part.
            mirror.remove(step)
            del self._there[step]
        for file in files:
            name = f"{CHECKPOINTS}/{step}/{file.relative_to(self._folder(step)).as_posix()}"
            if (saved, name) not in self._sent:
                self._send(saved, file, name)
        rewinds = 0
        with tempfile.TemporaryDirectory(prefix="jaxgen-mirror-") as copies:
            for name in GROWING:
                copy = self._whole_rows(name, pathlib.Path(copies))
                self._send(saved, copy, f"{MANIFESTS}/{step}/{name}")
            rewinds = len(read_rewinds(pathlib.Path(copies, "history.jsonl")))
        sent = {name: entry for (at, name), entry in self._sent.items() if at == saved}
        there = mirror.sizes(f"{CHECKPOINTS}/{step}") | mirror.sizes(f"{MANIFESTS}/{step}")
        for name, (size, _) in sent.items():
            if there.get(name) != size:
                del self._sent[saved, name]
                raise OSError(f"{there.get(name, 0)} bytes of {size} came of {name}")
        return Manifest(step, rewinds, saved, sent)

    def _send(self, saved: int, file: pathlib.Path, name: str) -> None:
        if self.is_abandoned:
            raise InterruptedError("the run is over")
        self._sent[saved, name] = self.mirror.put(file, name, self._alive)
        self._alive()

    def _whole_rows(self, name: str, folder: pathlib.Path) -> pathlib.Path:
        """Returns a copy of a file of rows, to which training may append meanwhile."""
        copy = folder / name
        copy.touch()
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self.directory.path / name, copy)
        close_cut_row(copy)
        return copy

    def _copy_small_files(self) -> None:
        """Copies the small files that have changed; run.json last, as it tells a run's end."""
        path = self.directory.path
        files = [file for pattern in NAMES for file in sorted(path.glob(pattern))]
        files += [file for folder in FOLDERS for file in sorted((path / folder).rglob("*"))]
        with tempfile.TemporaryDirectory(prefix="jaxgen-mirror-") as copies:
            for file in [*files, self.directory.run_file]:
                name = file.relative_to(path).as_posix()
                if not file.is_file() or file.name.startswith("."):
                    continue
                stat = file.stat()
                stamp = stat.st_size, stat.st_mtime_ns
                if self._small.get(name) != stamp:
                    rows = name in GROWING
                    copy = self._whole_rows(name, pathlib.Path(copies)) if rows else file
                    self.mirror.put(copy, name, self._alive)
                    self._small[name] = stamp
                    self._alive()

    def _remove_old(self) -> None:
        """Removes what is no longer kept here, once the newest is whole in the mirror."""
        steps, there = self.directory.saved_steps(), self._there
        if self._keep_every is None or not steps or there.get(steps[-1]) != self._saved(steps[-1]):
            return
        newest, rewinds = steps[-1], len(read_rewinds(self.directory.history_file))
        for step, is_whole in self.mirror.steps().items():
            is_permanent = bool(self._keep_every) and step % self._keep_every == 0
            if step in steps or (is_permanent and is_whole and step < newest):
                continue
            # A later one stays, unless the run went back since: another process may have lost it.
            with contextlib.suppress(NotWholeError):
                if is_whole and step > newest and self.mirror.manifest(step).rewinds >= rewinds:
                    continue
            self.mirror.remove(step)
            there.pop(step, None)
