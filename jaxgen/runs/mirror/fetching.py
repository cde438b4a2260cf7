"""Fetches from the mirror what a run directory has lost, before the run goes on."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import Any

from jaxgen.configuration import difference, fingerprint, load_recorded
from jaxgen.errors import ConfigError, DataError, DiskError, JaxgenError, StoreError
from jaxgen.files import write_atomically
from jaxgen.redaction import redacted
from jaxgen.runs.config import RunConfig
from jaxgen.runs.history import read_rewinds
from jaxgen.runs.mirror.store import (
    CHECKPOINTS,
    GROWING,
    MANIFESTS,
    Manifest,
    Mirror,
    NotWholeError,
    open_mirror,
)
from jaxgen.runs.run_directory import RunDirectory

TEMPORARY = ".from-mirror"
"""The folder of the run directory in which files are until they are known to be whole."""
AT_ONCE = 4
"""Files that are fetched together."""


def fetch_from_mirror(
    url: str, directory: RunDirectory, config: RunConfig, keep: int
) -> list[dict[str, Any]]:
    """Fetches the newest whole checkpoint, and what belongs to it, where it is newer than any here.

    Call it on the main process, before anything is written for the configuration.

    Args:
      url: of the mirror.
      directory: of the run, locked.
      config: of the run.
      keep: how many of the newest checkpoints are kept; a run that may go back needs as many.

    Returns:
      An event for each thing that a person should know.

    Raises:
      ConfigError: if there can be no such mirror, or it is another run's.
      StoreError: if the store cannot be read, and the run has nothing here to go on from.
      DiskError: if what is fetched cannot be written.
    """
    mirror = open_mirror(url, directory)
    temporary = directory.path / TEMPORARY
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        record = mirror.record()
        if record is None:
            return []
        _check_same_run(mirror, record, directory, config, temporary)
        if directory.is_finished():
            return []
        count = 1 if config.train.divergence is None else keep
        return _fetch(mirror, record, directory, temporary, count)
    except DataError as error:
        if directory.run_file.exists() and directory.saved_steps():
            return [mirror_event(f"the mirror is left alone at this start: {error}")]
        raise StoreError(
            f"{directory.path} has no checkpoint, and whether the mirror has one is not known: "
            f"{error} Start again when it can be read, or with execution.mirror=None to begin anew."
        ) from error
    except OSError as error:
        raise DiskError(
            f"what {mirror.url} has could not be written to {directory.path}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch(
    mirror: Mirror,
    record: dict[str, Any],
    directory: RunDirectory,
    temporary: pathlib.Path,
    count: int,
) -> list[dict[str, Any]]:
    manifests, events = _manifests(mirror)
    local = _local_age(directory)
    fetched: list[Manifest] = []
    for manifest in manifests:
        if manifest.age <= local or len(fetched) == count:
            break
        try:
            fetch_files(mirror, manifest, manifest.files, temporary)
        except NotWholeError as error:
            events.append(_passed_over(mirror, manifest.step, error))
        else:
            fetched.append(manifest)
    newest = fetched[0] if fetched else None
    if newest is None and directory.run_file.exists():
        return events
    if newest is None and not directory.saved_steps():
        return [
            *events,
            mirror_event(f"{mirror.url} has no whole checkpoint: the run begins anew."),
        ]
    names = [name for name in mirror.small_files() if name != "run.json"]
    if newest is not None:
        names = [name for name in names if name not in GROWING]
        names += [f"{MANIFESTS}/{newest.step}/{name}" for name in GROWING]
    for name in names:
        if not (temporary / name).exists():
            mirror.get(name, temporary / name)
    for name in names:
        target = directory.path / name.removeprefix(f"{MANIFESTS}/{newest and newest.step}/")
        if newest is not None or not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, target)
    for manifest in reversed(fetched):  # The newest last: without it, all are fetched again.
        put_in_place(temporary / CHECKPOINTS / str(manifest.step), directory, manifest)
    if newest is not None and newest.step < record.get("steps", 0):
        record = record | {"finished": False}
    write_atomically(directory.run_file, json.dumps(record, indent=2) + "\n")
    if newest is not None:
        others = ", ".join(str(manifest.step) for manifest in fetched[1:])
        also = f" (and those of {others})" if others else ""
        why = f"the checkpoint of step {newest.step}{also} was fetched from {mirror.url}."
        events.append(mirror_event(why))
    return events


def fetch_files(
    mirror: Mirror, manifest: Manifest, names: Iterable[str], folder: pathlib.Path
) -> None:
    """Fetches files of a checkpoint into a folder.

    Raises:
      NotWholeError: if they are not what was copied there.
    """

    def get(name: str) -> None:
        try:
            size, digest = mirror.get(name, folder / name)
        except FileNotFoundError as error:
            raise NotWholeError(f"{name} is missing") from error
        if size != manifest.files[name][0]:
            raise NotWholeError(f"{name} has {size} bytes of {manifest.files[name][0]}")
        if digest != manifest.files[name][1]:
            raise NotWholeError(f"{name} does not have the digest that it was copied with")

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(get, names))


def put_in_place(folder: pathlib.Path, directory: RunDirectory, manifest: Manifest) -> None:
    """Moves a checkpoint that was fetched to where the run looks for it."""
    target = directory.checkpoints / folder.name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        os.utime(folder, ns=(manifest.saved, manifest.saved))
        os.replace(folder, target)


def _manifests(mirror: Mirror) -> tuple[list[Manifest], list[dict[str, Any]]]:
    """Returns the manifests, the newest first, and events of those that are none."""
    found, events = [], []
    for step in mirror.whole_steps():
        try:
            found.append(mirror.manifest(step))
        except NotWholeError as error:
            events.append(_passed_over(mirror, step, error))
    return sorted(found, key=lambda one: one.age, reverse=True), events


def _local_age(directory: RunDirectory) -> tuple[int, int]:
    """Returns what `Manifest.age` is for the newest checkpoint here; less than any without one."""
    steps = directory.saved_steps()
    return (len(read_rewinds(directory.history_file)), steps[-1]) if steps else (-1, -1)


def _check_same_run(
    mirror: Mirror,
    record: dict[str, Any],
    directory: RunDirectory,
    config: RunConfig,
    temporary: pathlib.Path,
) -> None:
    """Raises ConfigError if the mirror is of another run."""
    known = {fingerprint(config)}
    if directory.run_file.exists():
        known.add(directory.read_record().get("fingerprint", ""))
    if record.get("fingerprint") in known:
        return
    # Versions of jaxgen may write one configuration in two ways.
    lines = ["its config.gin cannot be read"]
    try:
        mirror.get("config.gin", temporary / "config.gin")
        write_atomically(temporary / "run.json", json.dumps(record))
        lines = difference(load_recorded(temporary / "config.gin"), config)
    except FileNotFoundError:
        pass
    except JaxgenError as error:
        lines = [str(error)]
    if lines:
        raise ConfigError(
            f"execution.mirror={mirror.url!r} has the run {record.get('name')!r} "
            f"(fingerprint {record.get('fingerprint')}), and {directory.path} is of "
            f"{config.name!r} ({fingerprint(config)}), which differs:\n  "
            + "\n  ".join(lines[:5])
            + f"\nGive this run a mirror of its own, such as {mirror.url}-{fingerprint(config)}, "
            "or go back to the other's configuration."
        )


def _passed_over(mirror: Mirror, step: int, error: Exception) -> dict[str, Any]:
    text = str(error).rstrip(".")
    return mirror_event(f"the checkpoint of step {step} in {mirror.url} is passed over: {text}.")


def mirror_event(why: str) -> dict[str, Any]:
    """Returns what a person should know, as an event of the run's history."""
    return {"event": "mirror", "why": redacted(why)}
