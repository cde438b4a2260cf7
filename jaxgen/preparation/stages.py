"""The work on one item: read and clean it, then tokenise what is left of it.

Both are functions of an item whose results are files; the last file to get its name says that the
others are whole, so an item is done or it is not.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from jaxgen.data.features import field
from jaxgen.data.hashing import is_heldout
from jaxgen.data.sources import Skipped
from jaxgen.data.storage import open_binary
from jaxgen.data.token_files import TokenWriter
from jaxgen.errors import DataError
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import Index
from jaxgen.preparation.duplicates import signatures
from jaxgen.preparation.filters import first_objection
from jaxgen.preparation.ngrams import WordHasher

SPACES = re.compile(r"\s+")
BATCH = 100
"""Documents that are tokenised at a time."""


@dataclasses.dataclass(frozen=True)
class Item:
    """A group of whole files.

    Attributes:
      number: in the corpus's order.
      source: the number of its source.
      files: their names.
    """

    number: int
    source: int
    files: tuple[str, ...]

    def path(self, folder: Path, name: str) -> Path:
        """Where a result of it lies."""
        return folder / f"{self.number:05}.{name}"


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs: the item, the settings, and where results go."""

    preparation: Preparation
    item: Item
    work: Path
    output: Path
    index_file: Path | None = None


def clean(job: Job) -> dict[str, Any]:
    """Reads, filters and scrubs an item's documents; returns its record, as it lies on disk.

    Leaves NUMBER.texts (JSON lines, zstandard), NUMBER.keys.npy (a hash of each text), with near
    duplicates NUMBER.signatures.npy, and NUMBER.clean.json.
    """
    done = job.item.path(job.work, "clean.json")
    if done.exists():
        return json.loads(done.read_text())
    preparation, started = job.preparation, time.perf_counter()
    source = preparation.sources[job.item.source]
    skipped, scrubbed = Skipped(), collections.Counter()
    dropped: collections.Counter[str] = collections.Counter()
    texts, bytes_in, count = [], 0, 0
    for file in job.item.files:
        for record in source.read_file(file, skipped):
            count += 1
            try:
                text = _encodable(field(record, preparation.field))
            except DataError as error:
                if source.on_error == "raise":
                    raise DataError(f"{file}: {error}") from error
                skipped.add(file, error)
                continue
            bytes_in += len(text.encode())
            objection = first_objection(preparation.filters, text)
            if objection is not None:
                dropped[objection] += 1
                continue
            if preparation.scrub is not None:
                text = preparation.scrub.apply(text, scrubbed)
            texts.append(text)
    keys = [xxhash.xxh3_64_intdigest(normalised(text).encode()) for text in texts]
    seconds = time.perf_counter() - started
    minhash = 0.0
    if preparation.near_duplicates is not None:
        started = time.perf_counter()
        matrix = signatures(texts, preparation.near_duplicates)
        _save(job.item.path(job.work, "signatures.npy"), _as_npy(matrix))
        minhash = time.perf_counter() - started
    _save(job.item.path(job.work, "texts"), _compressed(texts))
    _save(job.item.path(job.work, "keys.npy"), _as_npy(np.array(keys, np.uint64)))
    record = {
        "documents_in": count,
        "bytes_in": bytes_in,
        "documents": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
        "dropped": dict(sorted(dropped.items())),
        "scrubbed": dict(sorted(scrubbed.items())),
        "skipped": {f"{f}: {reason}": n for (f, reason), n in sorted(skipped.counts.items())},
        "inputs": {file: _digest(file) for file in job.item.files},
        "seconds": {"clean": seconds, "signatures": minhash},
    }
    _save(done, json.dumps(record).encode())
    return record


def tokenise(job: Job) -> dict[str, Any]:
    """Decontaminates, splits and tokenises what is left of an item.

    Leaves train-NUMBER and heldout-NUMBER token files in the output and NUMBER.tokens.json.
    """
    done = job.item.path(job.work, "tokens.json")
    if done.exists():
        return json.loads(done.read_text())
    preparation, codec = job.preparation, job.preparation.codec
    is_out = np.load(job.item.path(job.work, "out.npy"))
    index = None if job.index_file is None else _read_index(job.index_file)
    hasher, report = WordHasher(), []
    seconds: dict[str, float] = collections.defaultdict(float)
    splits: dict[str, list[str]] = {"train": [], "heldout": []}
    for number, text in enumerate(read_texts(job.item.path(job.work, "texts"))):
        if is_out[number]:
            continue
        if index is not None:
            started = time.perf_counter()
            matches = index.matches(text, hasher)
            seconds["decontaminate"] += time.perf_counter() - started
            if matches:
                place = {"shard": job.item.number, "document": number, "begins": text[:80]}
                report += [match | place for match in matches]
                continue
        heldout = is_heldout(text, preparation.heldout_fraction)
        splits["heldout" if heldout else "train"].append(text)
    counts = {}
    for split, texts in splits.items():
        name = f"{split}-{job.item.number:05}"
        started = time.perf_counter()
        with TokenWriter(job.output, name, codec.vocab_size) as writer:
            for first in range(0, len(texts), BATCH):
                for ids in codec.encode_batch(texts[first : first + BATCH]):
                    writer.add(ids)
        seconds["tokenise"] += time.perf_counter() - started
        counts[split] = {
            "name": name,
            "documents": len(texts),
            "tokens": writer.offsets[-1],
            "bytes": sum(len(text.encode()) for text in texts),
            "digest": _digest(str(job.output / f"{name}.tokens")),
        }
    record = {"splits": counts, "contaminated": report, "seconds": dict(seconds)}
    _save(done, json.dumps(record).encode())
    return record


def normalised(text: str) -> str:
    """What equal documents have in common: the text in lower case, spaces as one."""
    return SPACES.sub(" ", text.lower()).strip()


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a cleaned item."""
    import zstandard

    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            yield json.loads(line)


def _compressed(texts: list[str]) -> bytes:
    import zstandard

    lines = "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    return zstandard.ZstdCompressor(level=1).compress(lines.encode())


def _encodable(text: str) -> str:
    """The text, with a question mark for each half of a character, which JSON allows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _as_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _save(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _digest(file: str) -> str:
    with open_binary(file) as stream:
        digest = hashlib.blake2b(digest_size=16)
        while data := stream.read(2**20):
            digest.update(data)
    return digest.hexdigest()


def _read_index(path: Path) -> Index:
    import pickle

    return pickle.loads(path.read_bytes())
