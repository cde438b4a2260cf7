"""Duplicates of a corpus that is larger than the memory: hashes on disk, searched part by part.

Each item leaves its documents' hashes sorted: one of the whole text, and one of each band of its
signature. A job takes one of these rows and a part of the range of hashes, so that equal ones meet
in one job; it holds about `DOCUMENTS_AT_ONCE` hashes, however large the corpus, and can be run
anywhere. What agrees in a band is compared by whole signatures, read from disk.

This file imports neither jax nor the rest of a preparation, so that a job's memory is its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.hashing import mix64
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.items import save_array

Run = Callable[[Callable[[Any], dict[str, Any]], Sequence[Any]], list[dict[str, Any]]]
DOCUMENTS_AT_ONCE = 2**19
"""Documents whose hashes a job holds; about 60 bytes each."""
PAIRS_AT_ONCE = 2**13
"""Pairs whose signatures are compared at a time."""


@dataclasses.dataclass(frozen=True)
class Hashed:
    """The hashes of a corpus on disk.

    Attributes:
      work: the folder of the items' files.
      counts: the number of documents of each item.
      near: the settings of near duplicates; None: only whole texts have hashes.
    """

    work: Path
    counts: tuple[int, ...]
    near: NearDuplicates | None

    @property
    def ends(self) -> np.ndarray:
        """Returns [items + 1]: the number of each item's first document, and of all."""
        return np.cumsum([0, *self.counts])

    @property
    def rows(self) -> int:
        """Returns the number of hashes of a document."""
        return 1 if self.near is None else 1 + self.near.bands

    def path(self, item: int, name: str) -> Path:
        """Returns the path of one of an item's files."""
        return self.work / f"{item:05}.{name}"


class DuplicatesFound(NamedTuple):
    """The documents that equal or resemble an earlier one, and the seconds of all workers."""

    equal: int
    near: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class SearchJob:
    """A search for duplicates among the documents of which one hash is in a part of the range.

    Attributes:
      hashed: the corpus.
      row: 0 for the hashes of whole texts, 1 and on for those of the bands.
      part: the part's number.
      parts: the number of parts into which the range of hashes is divided.
    """

    hashed: Hashed
    row: int
    part: int
    parts: int

    @property
    def path(self) -> Path:
        """Returns the path of what it finds."""
        return self.hashed.work / f"found-{self.row:03}-{self.part:05}.npy"


def write_hashes(hashed: Hashed, item: int, keys: np.ndarray) -> None:
    """Writes NUMBER.hashes: [rows, documents] uint64, sorted row by row, and their uint32 places.

    Args:
      hashed: where, and the settings; with near duplicates NUMBER.signatures is there.
      item: the item's number.
      keys: [documents] uint64, hashes of the whole texts.
    """
    count = len(keys)
    with open(hashed.path(item, "hashes"), "wb") as file:
        rows = itertools.chain([keys], _band_hashes(hashed, item, count))
        for number, row in enumerate(rows):
            order = np.argsort(row, kind="stable")
            file.seek(8 * count * number)
            file.write(row[order].astype("<u8").tobytes())
            file.seek(8 * count * hashed.rows + 4 * count * number)
            file.write(order.astype("<u4").tobytes())


def _band_hashes(hashed: Hashed, item: int, count: int) -> Iterator[np.ndarray]:
    """Yields the hashes of each band of an item's signatures, [documents] uint64."""
    near = hashed.near
    if near is None or not count:
        return
    shape = (count, near.bands, near.rows)
    matrix = np.memmap(hashed.path(item, "signatures"), "<u4", "r", shape=shape)
    for band in range(near.bands):
        result = np.zeros(count, np.uint64)
        for column in range(near.rows):
            result = mix64(result ^ matrix[:, band, column].astype(np.uint64)) + np.uint64(1)
        yield result


def find_equal(job: SearchJob) -> dict[str, float]:
    """Finds the documents whose text equals an earlier one's; leaves their numbers, sorted."""
    begun = time.perf_counter()
    if not job.path.exists():
        hashes, documents = _sorted_hashes(job)
        save_array(job.path, np.sort(documents[1:][hashes[1:] == hashes[:-1]]))
    return {"seconds": time.perf_counter() - begun}


def find_near(job: SearchJob) -> dict[str, float]:
    """Finds pairs that agree in a band and, by their signatures, at least by the threshold.

    Documents that equal an earlier one are left out (NUMBER.equal). Each of the others is
    compared with the first of its bucket and with the one before it. Leaves [pairs, 2] numbers.
    """
    begun = time.perf_counter()
    if not job.path.exists():
        hashes, documents = _sorted_hashes(job)
        is_first = np.ones(len(hashes), bool)
        is_first[1:] = hashes[1:] != hashes[:-1]
        starts = np.flatnonzero(is_first)
        first = np.repeat(starts, np.diff(np.append(starts, len(hashes))))
        later = np.flatnonzero(~is_first)
        pairs = np.concatenate(
            [
                np.stack([documents[other], documents[later]], axis=1)
                for other in (first[later], later - 1)
            ]
        )
        pairs = np.unique(pairs, axis=0)
        kept = [
            _agreeing(job.hashed, pairs[start : start + PAIRS_AT_ONCE])
            for start in range(0, len(pairs), PAIRS_AT_ONCE)
        ]
        save_array(job.path, np.concatenate([np.zeros((0, 2), np.int64), *kept]))
    return {"seconds": time.perf_counter() - begun}


def _sorted_hashes(job: SearchJob) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hashes of a job and their documents, sorted by both."""
    hashed, parts = job.hashed, job.parts
    low, high = (2**64 * part // parts for part in (job.part, job.part + 1))
    hashes, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for item, (first, count) in enumerate(zip(hashed.ends[:-1], hashed.counts, strict=True)):
        if not count:
            continue
        with open(hashed.path(item, "hashes"), "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        row = np.frombuffer(mapped, "<u8", count, 8 * count * job.row)
        start = int(np.searchsorted(row, np.uint64(low)))
        stop = count if high == 2**64 else int(np.searchsorted(row, np.uint64(high)))
        offset = 8 * count * hashed.rows + 4 * (count * job.row + start)
        places = np.frombuffer(mapped, "<u4", stop - start, offset).astype(np.int64)
        values = row[start:stop].copy()
        if job.row:
            kept = np.fromfile(hashed.path(item, "equal"), bool)[places] == 0
            values, places = values[kept], places[kept]
        hashes.append(values)
        documents.append(places + first)
    joined = np.concatenate(hashes)
    order = np.argsort(joined, kind="stable")
    return joined[order], np.concatenate(documents)[order]


def _agreeing(hashed: Hashed, pairs: np.ndarray) -> np.ndarray:
    """Returns those of [pairs, 2] documents whose signatures agree by the threshold."""
    assert hashed.near is not None, "there are signatures"
    documents, place = np.unique(pairs, return_inverse=True)
    rows = np.concatenate(list(_signatures(hashed, documents)))
    first, second = rows[place.reshape(pairs.shape)].swapaxes(0, 1)
    return pairs[np.mean(first == second, axis=1) >= hashed.near.threshold]


def _signatures(hashed: Hashed, documents: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the signatures of sorted documents, item by item."""
    assert hashed.near is not None, "there are signatures"
    size, ends = 4 * hashed.near.permutations, hashed.ends
    item_of = np.searchsorted(ends, documents, side="right") - 1
    for item in np.unique(item_of):
        places = documents[item_of == item] - ends[item]
        # Read, not mapped: pages of a map would count as the job's memory.
        handle = os.open(hashed.path(int(item), "signatures"), os.O_RDONLY)
        try:
            data = b"".join(os.pread(handle, size, size * int(place)) for place in places)
        finally:
            os.close(handle)
        yield np.frombuffer(data, "<u4").reshape(len(places), -1)


def _of_item(found: Sequence[Path], first: int, count: int) -> np.ndarray:
    """Maps files of sorted documents to [count] bool, true for those of an item."""
    is_found = np.zeros(count, bool)
    for path in found:
        documents = np.load(path, mmap_mode="r")
        start, stop = np.searchsorted(documents, (first, first + count))
        is_found[np.asarray(documents[start:stop]) - first] = True
    return is_found


class Clusters:
    """The first document of each one's cluster, in a file that memory need not hold."""

    def __init__(self, path: Path, count: int):
        # How far back an earlier one of the cluster is; a new file's zeros take no room.
        self._back = np.memmap(path, "<i8", "w+", shape=(max(count, 1),))

    def join(self, pairs: np.ndarray) -> None:
        """Joins the clusters of [pairs, 2] documents."""
        while len(pairs):
            roots = self.first_of(pairs.reshape(-1)).reshape(-1, 2)
            pairs = np.unique(np.sort(roots[roots[:, 0] != roots[:, 1]], axis=1), axis=0)
            # Each later root goes to the earliest that it is joined with: never in a circle.
            ordered = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
            later, place = np.unique(ordered[:, 1], return_index=True)
            self._back[later] = later - ordered[place, 0]

    def first_of(self, documents: np.ndarray) -> np.ndarray:
        """Returns the first document of the clusters of [n] documents."""
        root = documents
        while (back := self._back[root]).any():
            root = root - back
        self._back[documents] = documents - root
        return root


def mark_duplicates(hashed: Hashed, exact: bool, run: Run) -> DuplicatesFound:
    """Marks the documents of each item that equal or resemble an earlier one, in NUMBER.out.npy.

    Args:
      hashed: the corpus, its hashes written.
      exact: whether to remove equal ones.
      run: maps a function over jobs, wherever they run.
    """
    parts = max(1, -(-sum(hashed.counts) // DOCUMENTS_AT_ONCE))
    if parts == 1:
        run = _run_here  # Too little for processes of its own.
    equal = [SearchJob(hashed, 0, part, parts) for part in range(parts)] if exact else []
    seconds = sum(record["seconds"] for record in run(find_equal, equal))
    items = list(enumerate(zip(hashed.ends[:-1].tolist(), hashed.counts, strict=True)))
    for item, (first, count) in items:
        is_equal = _of_item([job.path for job in equal], first, count)
        is_equal.tofile(hashed.path(item, "equal"))
    near = [
        SearchJob(hashed, row, part, parts)
        for row in range(1, hashed.rows)
        for part in range(parts)
    ]
    seconds += sum(record["seconds"] for record in run(find_near, near))
    begun = time.perf_counter()
    clusters = Clusters(hashed.work / "clusters", sum(hashed.counts))
    for job in near:
        clusters.join(np.load(job.path))
    found = np.zeros(2, np.int64)
    for item, (first, count) in items:
        is_equal = np.fromfile(hashed.path(item, "equal"), bool)
        documents = np.arange(first, first + count)
        is_near = clusters.first_of(documents) != documents
        save_array(hashed.path(item, "out.npy"), is_equal | is_near)
        found += is_equal.sum(), is_near.sum()
    return DuplicatesFound(int(found[0]), int(found[1]), seconds + time.perf_counter() - begun)


def _run_here(
    function: Callable[[Any], dict[str, Any]], jobs: Sequence[Any]
) -> list[dict[str, Any]]:
    return [function(job) for job in jobs]
