"""A preparation from beginning to end: items, stages, the manifest; started again, it goes on."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.prepared import FORMAT, MANIFEST
from jaxgen.data.storage import stamp_of
from jaxgen.errors import DataError
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import make_index
from jaxgen.preparation.duplicates import later_equals, near_copies
from jaxgen.preparation.engines import Engine, map_items
from jaxgen.preparation.stages import Item, Job, clean, tokenise

WORK, SETTINGS, CONTAMINATED = "work", "settings.json", "contaminated.jsonl"


@dataclasses.dataclass(frozen=True)
class StageTime:
    """How long a stage took.

    Attributes:
      name: of the stage.
      seconds: of all workers together.
      bytes_in: of text.
    """

    name: str
    seconds: float
    bytes_in: int


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a preparation has made.

    Attributes:
      manifest: as it lies in the output.
      times: of this process's and its workers' stages; empty where all was done before.
      seconds: from beginning to end.
    """

    manifest: dict[str, Any]
    times: list[StageTime]
    seconds: float


def prepare(
    preparation: Preparation,
    output: str | os.PathLike,
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    tell: Callable[[str, int, int], object] = lambda stage, done, of: None,
) -> Prepared:
    """Prepares a corpus into a folder.

    The same settings and files give the same bytes, whatever the engine and the number of workers,
    and however often it was stopped and started again. On a cluster the folder must be one that
    all its machines see.

    Args:
      preparation: what is done.
      output: the folder, new or of a preparation that was stopped.
      engine: see `map_items`.
      workers: likewise.
      address: likewise.
      tell: called with a stage's name, items done and items in all.

    Raises:
      DataError: for what cannot be read or written; for a folder of other settings or files.
    """
    begun = time.perf_counter()
    output = Path(output).absolute()
    items = make_items(preparation)
    settings = _settings(preparation, items)
    manifest = output / MANIFEST
    work = output / WORK
    if manifest.exists():
        _check_same(json.loads(manifest.read_text())["settings"], settings, output)
        return Prepared(json.loads(manifest.read_text()), [], time.perf_counter() - begun)
    try:
        work.mkdir(parents=True, exist_ok=True)
        recorded = work / SETTINGS
        if recorded.exists():
            _check_same(json.loads(recorded.read_text()), settings, output)
        else:
            _write_json(recorded, settings)
        jobs = [Job(preparation, item, work, output) for item in items]

        def run(function, jobs: Sequence[Job], stage: str) -> list[dict[str, Any]]:
            records: dict[int, dict[str, Any]] = {}
            for place, record in map_items(function, jobs, engine, workers, address):
                records[place] = record
                tell(stage, len(records), len(jobs))
            return [records[place] for place in range(len(jobs))]

        cleaned = run(clean, jobs, "clean")
        started = time.perf_counter()
        removed = _remove_duplicates(preparation, items, work)
        deduplicating = time.perf_counter() - started
        jobs = [dataclasses.replace(job, index_file=_index_file(preparation, work)) for job in jobs]
        made = run(tokenise, jobs, "tokenise")
        result = _manifest(preparation, settings, cleaned, removed, made, work)
        rows = [row for record in made for row in record["contaminated"]]
        _write(output / CONTAMINATED, "".join(json.dumps(row) + "\n" for row in rows))
        _write_json(manifest, result)
        shutil.rmtree(work)
    except OSError as error:
        raise DataError(
            f"{output} cannot be written: {error.strerror}. What is done is kept: make room and "
            "give the same command to go on."
        ) from error
    times = _times(cleaned, made, deduplicating)
    return Prepared(result, times, time.perf_counter() - begun)


def make_items(preparation: Preparation) -> list[Item]:
    """Groups of whole files of about `item_bytes`, in the order of sources and names."""
    items: list[Item] = []
    for number, source in enumerate(preparation.sources):
        group, size = [], 0
        for file in source.files():
            bytes_of_file = source.size_of(file)
            if group and size + bytes_of_file > preparation.item_bytes:
                items.append(Item(len(items), number, tuple(group)))
                group, size = [], 0
            group.append(file)
            size += bytes_of_file
        if group:
            items.append(Item(len(items), number, tuple(group)))
    return items


def _remove_duplicates(preparation: Preparation, items: Sequence[Item], work: Path) -> list[int]:
    """Says in NUMBER.out.npy which documents go; returns how many equal and near ones do."""
    keys = [np.load(item.path(work, "keys.npy")) for item in items]
    joined = np.concatenate(keys)
    is_equal = np.zeros(len(joined), bool)
    if preparation.exact_duplicates:
        is_equal = later_equals(joined)
    is_near = np.zeros(len(joined), bool)
    if preparation.near_duplicates is not None:
        matrix = np.concatenate([np.load(item.path(work, "signatures.npy")) for item in items])
        first = near_copies(matrix, preparation.near_duplicates, is_equal)
        is_near = (first != np.arange(len(joined))) & ~is_equal
    ends = np.cumsum([len(part) for part in keys])
    for item, out in zip(items, np.split(is_equal | is_near, ends[:-1]), strict=True):
        path = item.path(work, "out.npy")
        temporary = path.with_name(f".{path.name}")
        with open(temporary, "wb") as file:
            np.save(file, out)
        os.replace(temporary, path)
    return [int(is_equal.sum()), int(is_near.sum())]


def _index_file(preparation: Preparation, work: Path) -> Path | None:
    if preparation.decontaminate is None:
        return None
    path = work / "index.pickle"
    if not path.exists():
        index = make_index(preparation.decontaminate)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(pickle.dumps(index))
        os.replace(temporary, path)
    return path


def _manifest(
    preparation: Preparation, settings: dict, cleaned: list, removed: list[int], made: list,
    work: Path,
) -> dict[str, Any]:  # fmt: skip
    def total(name: str, records: list) -> dict[str, int]:
        counter = collections.Counter()
        for record in records:
            counter.update(record[name])
        return dict(sorted(counter.items()))

    read = sum(record["documents_in"] for record in cleaned)
    passed = sum(record["documents"] for record in cleaned)
    distinct = passed - removed[0]
    apart = distinct - removed[1]
    contaminated = {(r["shard"], r["document"]) for one in made for r in one["contaminated"]}
    codec = preparation.codec
    stages = [
        {"stage": "read", "in": read, "out": read, "skipped": total("skipped", cleaned)},
        {"stage": "filter", "in": read, "out": passed, "dropped": total("dropped", cleaned)},
        {"stage": "scrub", "in": passed, "out": passed, "replaced": total("scrubbed", cleaned)},
        {"stage": "exact duplicates", "in": passed, "out": distinct},
        {"stage": "near duplicates", "in": distinct, "out": apart},
        {"stage": "decontaminate", "in": apart, "out": apart - len(contaminated)},
    ]
    if preparation.decontaminate is not None:
        index = pickle.loads((work / "index.pickle").read_bytes())
        stages[-1] |= {
            "items": len(index.names),
            "items_too_short": index.too_short,
            "items_found": len({r["item"] for one in made for r in one["contaminated"]}),
        }
    splits = {split: [record["splits"][split] for record in made] for split in ("train", "heldout")}
    return {
        "format": FORMAT,
        "codec": codec.digest,
        "vocab_size": codec.vocab_size,
        "splits": splits,
        "tokens": {name: sum(f["tokens"] for f in files) for name, files in splits.items()},
        "documents": {name: sum(f["documents"] for f in files) for name, files in splits.items()},
        "stages": stages,
        "inputs": {k: v for record in cleaned for k, v in sorted(record["inputs"].items())},
        "settings": settings,
    }


def _times(cleaned: list, made: list, deduplicating: float) -> list[StageTime]:
    def seconds(name: str, records: list) -> float:
        return sum(record["seconds"].get(name, 0.0) for record in records)

    read = sum(record["bytes_in"] for record in cleaned)
    passed = sum(record["bytes"] for record in cleaned)
    kept = sum(split["bytes"] for record in made for split in record["splits"].values())
    return [
        StageTime("read, filter, scrub", seconds("clean", cleaned), read),
        StageTime("signatures", seconds("signatures", cleaned), passed),
        StageTime("duplicates", deduplicating, passed),
        StageTime("decontaminate", seconds("decontaminate", made), passed),
        StageTime("tokenise", seconds("tokenise", made), kept),
    ]


def _settings(preparation: Preparation, items: Sequence[Item]) -> dict[str, Any]:
    fields = dataclasses.fields(preparation)
    return {
        **{field.name: repr(getattr(preparation, field.name)) for field in fields},
        "files": {file: stamp_of(file) for item in items for file in item.files},
    }


def _check_same(recorded: dict[str, Any], given: dict[str, Any], output: Path) -> None:
    flat = [
        {**one, **{f"the file {k}": v for k, v in one["files"].items()}, "files": ""}
        for one in (recorded, given)
    ]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    if names:
        lines = [f"  {name}: {flat[0].get(name)} -> {flat[1].get(name)}" for name in names[:5]]
        raise DataError(
            f"{output} was begun with other settings or files; give it a new folder, or the old "
            "settings:\n" + "\n".join(lines)
        )


def _write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
