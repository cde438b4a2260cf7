"""The work on one item: read and clean it, then tokenise what is left of it.

Both stream: an item may be larger than the memory. The last file that each writes shows that the
others are whole.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from jaxgen.codecs.codec import Codec
from jaxgen.data.features import field
from jaxgen.data.hashing import is_heldout
from jaxgen.data.prepared import DIGESTED
from jaxgen.data.sources import Skipped
from jaxgen.data.storage import digest_of
from jaxgen.data.token_files import TokenWriter
from jaxgen.errors import DataError
from jaxgen.preparation.bands import Hashed, write_hashes
from jaxgen.preparation.config import DivisibleSource, Preparation
from jaxgen.preparation.decontamination import Index, read_index
from jaxgen.preparation.duplicates import signatures
from jaxgen.preparation.filters import first_objection
from jaxgen.preparation.items import (
    ItemJob,
    read_texts,
    save_json,
    text_writer,
    write_text,
    writer_of,
)
from jaxgen.preparation.ngrams import WordHasher

SPACES = re.compile(r"\s+")
BATCH = 100
"""Documents that are tokenised, or get their signatures, at a time."""


def clean(job: ItemJob) -> dict[str, Any]:
    """Reads, filters and scrubs an item's documents; returns its record, which is on disk too.

    Leaves NUMBER.texts (JSON lines, zstandard), NUMBER.hashes (see `bands`), with near
    duplicates NUMBER.signatures, and NUMBER.clean.json.
    """
    done = job.item.path(job.work, "clean.json")
    if done.exists():
        return json.loads(done.read_text())
    preparation, near = job.preparation, job.preparation.near_duplicates
    begun, minhash = time.perf_counter(), 0.0
    counts, dropped = collections.Counter(), collections.Counter()
    scrubbed: collections.Counter[str] = collections.Counter()
    skipped = Skipped()
    keys, waiting = [], []

    def sign() -> float:
        started = time.perf_counter()
        if near is not None:
            signed.write(signatures(waiting, near).astype("<u4").tobytes())
        waiting.clear()
        return time.perf_counter() - started

    with (
        text_writer(job.item.path(job.work, "texts")) as writer,
        writer_of(job.item.path(job.work, "signatures")) as signed,
    ):
        for text in _texts(job, skipped):
            counts.update(documents_in=1, bytes_in=len(text.encode()))
            objection = first_objection(preparation.filters, text)
            if objection is not None:
                dropped[objection] += 1
                continue
            if preparation.scrub is not None:
                text = preparation.scrub.apply(text, scrubbed)
            counts.update(documents=1, bytes=len(text.encode()))
            write_text(writer, text)
            keys.append(xxhash.xxh3_64_intdigest(normalised(text).encode()))
            waiting.append(text)
            if len(waiting) == BATCH:
                minhash += sign()
        minhash += sign()
    write_hashes(Hashed(job.work, (), near), job.item.number, np.array(keys, np.uint64))
    seconds = time.perf_counter() - begun - minhash
    record = {
        **{name: counts[name] for name in ("documents_in", "bytes_in", "documents", "bytes")},
        "dropped": dict(sorted(dropped.items())),
        "scrubbed": dict(sorted(scrubbed.items())),
        "skipped": {f"{f}: {reason}": n for (f, reason), n in sorted(skipped.counts.items())},
        "inputs": {file: digest_of([file]) for file in job.item.digested},
        "seconds": {"clean": seconds, "signatures": minhash},
    }
    save_json(done, record)
    return record


def tokenise(job: ItemJob) -> dict[str, Any]:
    """Decontaminates, splits and tokenises the remaining documents of an item.

    Leaves train-NUMBER and heldout-NUMBER token files in the output and NUMBER.tokens.json.
    """
    done = job.item.path(job.work, "tokens.json")
    if done.exists():
        return json.loads(done.read_text())
    preparation = job.preparation
    is_out = np.load(job.item.path(job.work, "out.npy"))
    index = None if job.index_file is None else read_index(job.index_file)
    hasher, report, cut = WordHasher(), [], collections.Counter()
    seconds: dict[str, float] = collections.defaultdict(float)
    with contextlib.ExitStack() as stack:
        shards = {
            split: stack.enter_context(_open_shard(job, split)) for split in ("train", "heldout")
        }
        for number, text in enumerate(read_texts(job.item.path(job.work, "texts"))):
            if is_out[number]:
                continue
            pieces = [text]
            if index is not None:
                started = time.perf_counter()
                matches = index.matches(text, hasher)
                seconds["decontaminate"] += time.perf_counter() - started
                if matches:
                    pieces = _clean_pieces(preparation, index, text, hasher)
                    place = {"shard": job.item.number, "document": number, "begins": text[:80]}
                    report += [match | place | {"pieces": len(pieces)} for match in matches]
                    cut.update(
                        documents_cut=bool(pieces),
                        pieces=len(pieces),
                        characters_cut=len(text) - sum(map(len, pieces)) if pieces else 0,
                    )
            # The pieces of a document are of one split.
            split = "heldout" if is_heldout(text, preparation.heldout_fraction) else "train"
            for piece in pieces:
                shards[split].add(piece)
    record = {
        "splits": {split: shard.record() for split, shard in shards.items()},
        "contaminated": report,
        "cut": dict(cut),
        "seconds": {**seconds, "tokenise": sum(shard.seconds for shard in shards.values())},
    }
    save_json(done, record)
    return record


def _clean_pieces(
    preparation: Preparation, index: Index, text: str, hasher: WordHasher
) -> list[str]:
    """Returns what is kept of a document that holds an item."""
    assert preparation.decontaminate is not None, "there is an index"
    cut = preparation.decontaminate.cut
    return [] if cut is None else cut.pieces(text, index.shared(text, hasher))


def normalised(text: str) -> str:
    """Returns the text in lower case with single spaces, the same for duplicates."""
    return SPACES.sub(" ", text.lower()).strip()


@dataclasses.dataclass
class _Shard:
    """Documents of a split on their way into a token file."""

    folder: Path
    name: str
    codec: Codec
    writer: TokenWriter
    waiting: list[str] = dataclasses.field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0

    def add(self, text: str) -> None:
        self.waiting.append(text)
        self.bytes += len(text.encode())
        if len(self.waiting) == BATCH:
            self.encode()

    def encode(self) -> None:
        started = time.perf_counter()
        for ids in self.codec.encode_batch(self.waiting):
            self.writer.add(ids)
        self.waiting.clear()
        self.seconds += time.perf_counter() - started

    def record(self) -> dict[str, Any]:
        """Returns the shard's entry in the manifest, when it is whole."""
        return {
            "name": self.name,
            "documents": len(self.writer.offsets) - 1,
            "tokens": self.writer.offsets[-1],
            "bytes": self.bytes,
            "digest": digest_of([str(self.folder / f"{self.name}.{kind}") for kind in DIGESTED]),
        }


@contextlib.contextmanager
def _open_shard(job: ItemJob, split: str) -> Iterator[_Shard]:
    name, codec = f"{split}-{job.item.number:05}", job.preparation.codec
    with TokenWriter(job.output, name, codec.vocab_size) as writer:
        shard = _Shard(job.output, name, codec, writer)
        yield shard
        shard.encode()


def _texts(job: ItemJob, skipped: Skipped) -> Iterator[str]:
    """Yields the texts of an item's documents that can be read."""
    source, extent = job.preparation.sources[job.item.source], job.item.extent
    for file in job.item.files:
        if extent is None:
            records = source.read_file(file, skipped)
        else:
            assert isinstance(source, DivisibleSource), "it has divided the file"
            records = source.read_part(file, extent, skipped)
        for record in records:
            try:
                yield _encodable(field(record, job.preparation.field))
            except DataError as error:
                if source.on_error == "raise":
                    raise DataError(f"{file}: {error}") from error
                skipped.add(file, error)


def _encodable(text: str) -> str:
    """Returns the text, with a question mark for each half of a character, which JSON allows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
