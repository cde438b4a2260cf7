"""A preparation from beginning to end: items, stages, the manifest; started again, it goes on."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxgen.data.prepared import FORMAT, MANIFEST, PreparedCorpus
from jaxgen.data.storage import stamp_of
from jaxgen.errors import DataError
from jaxgen.json_values import read_json
from jaxgen.preparation.bands import DuplicatesFound, Hashed, Run, mark_duplicates
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import make_index, read_index
from jaxgen.preparation.engines import Engine, map_items
from jaxgen.preparation.items import (
    Item,
    ItemJob,
    make_items,
    save,
    save_json,
    sole_use,
)
from jaxgen.preparation.stages import clean, tokenise

WORK, SETTINGS, CONTAMINATED, SLURM = "work", "settings.json", "contaminated.jsonl", "slurm"


@dataclasses.dataclass(frozen=True)
class StageTime:
    """The time of one stage.

    Attributes:
      name: the stage's name.
      seconds: the time of all workers together.
      bytes_in: bytes of text.
    """

    name: str
    seconds: float
    bytes_in: int


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The result of a preparation.

    Attributes:
      manifest: the manifest in the output.
      times: the times of the stages; empty where all was done before.
      seconds: the time from beginning to end.
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
    sbatch: Sequence[str] = (),
    tell: Callable[[str, int, int], object] = lambda stage, done, of: None,
) -> Prepared:
    """Prepares a corpus into a folder.

    The same settings and files give the same bytes, whatever the engine and the number of workers,
    and however often it was stopped and started again. On a cluster the folder must be one that
    all its machines see.

    Args:
      preparation: the settings.
      output: the folder, new or of a preparation that was stopped.
      engine: see `map_items`.
      workers: likewise.
      address: likewise.
      sbatch: likewise.
      tell: called with a stage's name, items done and items in all.

    Raises:
      DataError: if a file cannot be read or written, or the folder has other settings or files.
    """
    begun = time.perf_counter()
    output = Path(output).absolute()
    items = make_items(preparation)
    settings = _settings(preparation, items)
    times: list[StageTime] = []
    try:
        finished = _finished(output, settings)
        if finished is None:
            (output / WORK).mkdir(parents=True, exist_ok=True)
            with sole_use(output / WORK):
                # Another process may just have finished it.
                finished = _finished(output, settings)
                if finished is None:
                    where = engine, workers, address, output / WORK / SLURM, sbatch
                    run = functools.partial(_run, where, tell)
                    finished, times = _prepare(preparation, items, settings, output, run)
        shutil.rmtree(output / WORK, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"preparing {output} stopped: {error}. What is done is kept: mend that, and run "
            "the same command again to go on."
        ) from error
    return Prepared(finished, times, time.perf_counter() - begun)


def _finished(output: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the manifest, if it is there and has these settings."""
    if not (output / MANIFEST).exists():
        return None
    manifest = PreparedCorpus(str(output)).manifest
    _check_same(manifest["settings"], settings, output)
    return manifest


def _prepare(
    preparation: Preparation,
    items: Sequence[Item],
    settings: dict[str, Any],
    output: Path,
    run: Run,
) -> tuple[dict[str, Any], list[StageTime]]:
    work = output / WORK
    recorded = work / SETTINGS
    if recorded.exists():
        fix = f"remove {work} to begin anew"
        _check_same(read_json(recorded, {"files": dict}, fix, DataError), settings, output)
    else:
        save_json(recorded, settings)
    index_file = None
    if preparation.decontaminate is not None:
        index_file = work / "index.pickle"
        if not index_file.exists():
            save(index_file, pickle.dumps(make_index(preparation.decontaminate)))
    jobs = [ItemJob(preparation, item, work, output, index_file) for item in items]
    cleaned = run(clean, jobs)
    counts = tuple(record["documents"] for record in cleaned)
    hashed = Hashed(work, counts, preparation.near_duplicates)
    removed = mark_duplicates(hashed, preparation.exact_duplicates, run)
    made = run(tokenise, jobs)
    rows = [row for record in made for row in record["contaminated"]]
    save(output / CONTAMINATED, "".join(json.dumps(row) + "\n" for row in rows).encode())
    result = _manifest(preparation, settings, cleaned, removed, made, index_file)
    save_json(output / MANIFEST, result)
    return result, _times(cleaned, made, removed.seconds)


def _run(
    where: tuple[Engine, int | None, str | None, Path, Sequence[str]],
    tell: Callable[[str, int, int], object],
    function: Callable[[Any], dict[str, Any]],
    jobs: Sequence[Any],
) -> list[dict[str, Any]]:
    records: dict[int, dict[str, Any]] = {}
    for place, record in map_items(function, jobs, *where):
        records[place] = record
        tell(function.__name__, len(records), len(jobs))
    return [records[place] for place in range(len(jobs))]


def _manifest(
    preparation: Preparation, settings: dict, cleaned: list, removed: DuplicatesFound, made: list,
    index_file: Path | None,
) -> dict[str, Any]:  # fmt: skip
    def total(name: str, records: list) -> dict[str, int]:
        counter = collections.Counter()
        for record in records:
            counter.update(record[name])
        return dict(sorted(counter.items()))

    skipped = total("skipped", cleaned)
    read = sum(record["documents_in"] for record in cleaned)
    passed = sum(record["documents"] for record in cleaned)
    distinct = passed - removed.equal
    apart = distinct - removed.near
    contaminated = {(r["shard"], r["document"]) for one in made for r in one["contaminated"]}
    cut = collections.Counter(total("cut", made))
    codec = preparation.codec
    stages = [
        {"stage": "read", "in": read + sum(skipped.values()), "out": read, "skipped": skipped},
        {"stage": "filter", "in": read, "out": passed, "dropped": total("dropped", cleaned)},
        {"stage": "scrub", "in": passed, "out": passed, "replaced": total("scrubbed", cleaned)},
        {"stage": "exact duplicates", "in": passed, "out": distinct},
        {"stage": "near duplicates", "in": distinct, "out": apart},
        {"stage": "decontaminate", "in": apart, "out": apart - len(contaminated) + cut["pieces"]},
    ]
    if index_file is not None:
        index = read_index(index_file)
        stages[-1] |= {
            "items": len(index.names),
            "items_too_short": index.too_short,
            "items_of_a_form": index.of_a_form,
            "items_found": len({r["item"] for one in made for r in one["contaminated"]}),
        }
    if preparation.decontaminate is not None and preparation.decontaminate.cut is not None:
        dropped = len(contaminated) - cut["documents_cut"]
        kept = {name: cut[name] for name in ("documents_cut", "pieces", "characters_cut")}
        stages[-1] |= {"documents_dropped": dropped, **kept}
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
    """Returns all settings that the bytes of the result depend on, for people and as JSON."""
    fields = dataclasses.fields(preparation)
    looked_for = preparation.decontaminate
    return {
        **{field.name: repr(getattr(preparation, field.name)) for field in fields},
        "format": FORMAT,
        "the digest of what is looked for": None if looked_for is None else looked_for.digest(),
        "files": {file: stamp_of(file) for item in items for file in item.digested},
        "items": len(items),
    }


def _check_same(recorded: dict[str, Any], asked: dict[str, Any], output: Path) -> None:
    flat = [
        {**one, **{f"the file {k}": v for k, v in one["files"].items()}, "files": ""}
        for one in (recorded, asked)
    ]
    names = [name for name in {**flat[0], **flat[1]} if flat[0].get(name) != flat[1].get(name)]
    if names:
        lines = [f"  {name}: {flat[0].get(name)} -> {flat[1].get(name)}" for name in names[:5]]
        raise DataError(
            f"{output} was begun with other settings or files; give it a new folder, or the old "
            "settings:\n" + "\n".join(lines)
        )
