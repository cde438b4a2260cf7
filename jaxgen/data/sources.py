"""Where records come from: random access to dictionaries, split by file or by key.

A source is a frozen description; `open(split)` gives its records. Which split a record belongs to
is a hash of its file's name (text files) or of its key (records), so adding data moves nothing
from one split to the other.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxgen.data.files import matching_files
from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.errors import DataError

Split = Literal["train", "heldout"]
Record = dict[str, Any]
logger = logging.getLogger(__name__)


class Records(Protocol):
    """Random access to the records of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


class Source(Protocol):
    """A frozen configuration object that finds records."""

    def open(self, split: Split) -> Records:
        """The records of a split; raises DataError where they cannot be read."""
        ...

    def content_digest(self) -> str | None:
        """Changes when the records do; None for records that are made and need no cache."""
        ...


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Records given outright.

    Attributes:
      records: the records.
      heldout_fraction: share of the records that is held out, by a hash of the record.
    """

    records: tuple[Record, ...]
    heldout_fraction: float = 0.01

    def open(self, split: Split) -> Records:
        """The records of a split."""
        return select(self.records, split, self.heldout_fraction, None, "the given records")

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> str:
        """Changes when a record does."""
        return f"{hash64(json.dumps(self.records, sort_keys=True, default=str)):016x}"


@dataclasses.dataclass(frozen=True)
class TextFiles:
    """One record {"text", "path"} a file, split by file.

    Attributes:
      pattern: a folder (all files below it that look like text by their ending), a file, or a glob
        such as "books/**/*.txt".
      endings: which files of a folder are taken.
      heldout_fraction: share of the files that is held out, by a hash of the path; with few files
        the ones of smallest hash, at least one.
      on_error: "raise" stops at a file that is empty or not UTF-8; "skip" leaves it out and logs
        how many were.
    """

    pattern: str
    endings: tuple[str, ...] = (".txt", ".md", ".rst", ".py", ".tex", ".org", ".html", ".csv")
    heldout_fraction: float = 0.01
    on_error: Literal["raise", "skip"] = "raise"

    def open(self, split: Split) -> Records:
        """The files of a split, in the order of their names."""
        root, files = matching_files(self.pattern, self.endings)
        records, skipped = [], 0
        for file in self._of_split(root, files, split):
            try:
                text = read_text(file)
            except DataError:
                if self.on_error == "raise":
                    raise
                skipped += 1
                continue
            records.append({"text": text, "path": str(file)})
        if skipped:
            logger.warning("%s: %d unreadable file(s) skipped", self.pattern, skipped)
        if not records and files and split == "train":
            raise DataError(f"{self.pattern} holds no readable text.")
        return records

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> str:
        """Changes with the name, size or time of a file."""
        _, files = matching_files(self.pattern, self.endings)
        stats = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{hash64(self.heldout_fraction, self.on_error, *stats):016x}"

    def _of_split(self, root: Path, files: list[Path], split: Split) -> list[Path]:
        keys = {file: file.relative_to(root).as_posix() for file in files}
        heldout = {file for file in files if is_heldout(keys[file], self.heldout_fraction)}
        if not heldout and self.heldout_fraction > 0 and len(files) > 1:
            heldout = {min(files, key=lambda file: hash64("split", keys[file]))}
        if split == "heldout" and not heldout:
            raise DataError(
                f"{self.pattern} has no file to hold out: splits are by file and "
                f"{'there is only one' if len(files) == 1 else 'heldout_fraction is 0'}. "
                "Give two files or more, and a heldout_fraction above 0."
            )
        return [file for file in files if (file in heldout) == (split == "heldout")]


@dataclasses.dataclass(frozen=True)
class Jsonl:
    """One record a line of JSON-lines files, split by key.

    Attributes:
      pattern: a file, a folder or a glob.
      key_field: the field that decides the split; None takes the whole record.
      heldout_fraction: share of the keys that is held out.
      on_error: "raise" stops at a line that is not a JSON object; "skip" leaves it out and logs
        how many were.
    """

    pattern: str
    key_field: str | None = None
    heldout_fraction: float = 0.01
    on_error: Literal["raise", "skip"] = "raise"

    def open(self, split: Split) -> Records:
        """The records of a split, in the order of files and lines."""
        _, files = matching_files(self.pattern, (".jsonl",))
        skipped = 0
        records = []
        for file in files:
            for place, record in _json_lines(file):
                if isinstance(record, DataError):
                    if self.on_error == "raise":
                        raise record
                    skipped += 1
                elif belongs(record, split, self.heldout_fraction, self.key_field, place):
                    records.append(record)
        if skipped:
            logger.warning("%s: %d unreadable line(s) skipped", self.pattern, skipped)
        return not_empty(records, split, self.pattern)

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> str:
        """Changes with the name, size or time of a file."""
        _, files = matching_files(self.pattern, (".jsonl",))
        stats = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return f"{hash64(self.key_field, self.heldout_fraction, self.on_error, *stats):016x}"


def read_text(file: Path) -> str:
    """A file's text.

    Raises:
      DataError: if it cannot be read, is not UTF-8 or holds nothing but white space.
    """
    try:
        data = file.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}:{line}: not UTF-8 (byte {data[error.start]:#04x}). Convert the file (iconv), "
            'leave it out, or set on_error="skip".'
        ) from error
    if not text.strip():
        raise DataError(f'{file} is empty. Remove it, or set on_error="skip".')
    return text


def _json_lines(file: Path) -> Iterator[tuple[str, Record | DataError]]:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    if not any(line.strip() for line in lines):
        yield str(file), DataError(f'{file} is empty. Remove it, or set on_error="skip".')
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            yield (
                place,
                DataError(
                    f"{place}: not JSON ({error}). Mend or remove the line, or set "
                    'on_error="skip" to leave out and count such lines.'
                ),
            )
            continue
        if isinstance(record, dict):
            yield place, record
        else:
            yield place, DataError(f"{place}: a JSON object is wanted, not {line[:40]!r}.")


def belongs(
    record: Record, split: Split, fraction: float, key_field: str | None, place: str
) -> bool:
    """Whether a record belongs to a split, by its key.

    Raises:
      DataError: if the record lacks the key field.
    """
    if key_field is None:
        key = json.dumps(record, sort_keys=True, default=str)
    elif key_field in record:
        key = str(record[key_field])
    else:
        raise DataError(
            f"{place}: no field {key_field!r} for the split; the record has {sorted(record)}."
        )
    return is_heldout(key, fraction) == (split == "heldout")


def select(
    records: Sequence[Record], split: Split, fraction: float, key_field: str | None, name: str
) -> Sequence[Record]:
    """The records of a split, by key."""
    kept = [
        record
        for index, record in enumerate(records)
        if belongs(record, split, fraction, key_field, f"{name}, record {index}")
    ]
    return not_empty(kept, split, name)


def not_empty(records: Sequence[Record], split: Split, name: str) -> Sequence[Record]:
    """The records, or a DataError if there are none."""
    if not records:
        raise DataError(
            f"{name} has no record in the {split} split; give more records or another "
            "heldout_fraction."
        )
    return records
