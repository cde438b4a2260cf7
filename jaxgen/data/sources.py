"""Sources of records: streams of dictionaries, split by file or by key.

A source is a frozen description; `read(split)` streams its records in a fixed order. Which split a
record belongs to is a hash of its file's name (text files) or of its key (records), so adding data
moves nothing from one split to the other.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import re
from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

from jaxgen.data.hashing import hash64, is_heldout, is_of_share, record_text
from jaxgen.data.protocols import Record, Split
from jaxgen.data.storage import matching_files, size_of, stamp_of
from jaxgen.domains import UnitFraction, check_domains
from jaxgen.errors import DataError, NoRecordsError
from jaxgen.redaction import redacted

OnError = Literal["raise", "skip"]
Entry = tuple[str, Record | DataError]
"""A place, for messages, and the record there or the error about it."""


class Extent(NamedTuple):
    """A range of a file that can be read by itself: of bytes, or of row groups.

    Attributes:
      start: the first byte or row group.
      stop: one past the last; None: to the end.
    """

    start: int
    stop: int | None = None


REASON_ENDS = re.compile(r"[(.;]\s?")
logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Skipped:
    """Counts of the records that were left out, by (file, reason)."""

    counts: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )

    def add(self, file: str, error: DataError) -> None:
        """Counts one; the reason is the message's first words, without its place and numbers."""
        reason = str(error).removeprefix(file).split(":", 2)[-1]
        self.counts[file, REASON_ENDS.split(reason, maxsplit=1)[0].strip()] += 1

    def of(self, file: str) -> int:
        """Returns how many of a file were left out."""
        return sum(count for (name, _), count in self.counts.items() if name == file)


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Records that are listed in the configuration itself.

    Attributes:
      records: the records.
      heldout_fraction: share of the records that is held out, by a hash of the record.
    """

    records: tuple[Record, ...]
    heldout_fraction: UnitFraction = 0.01

    def __post_init__(self):
        check_domains(self, "in_memory")

    def read(self, split: Split) -> Iterator[Record]:
        """Yields the records of a split."""
        kept = (
            record
            for index, record in enumerate(self.records)
            if belongs(record, split, self.heldout_fraction, None, f"record {index}")
        )
        return some(kept, split, "the list of records")

    def content_digest(self) -> str:
        """Returns a text that changes when a record does."""
        return f"{hash64(record_text(self.records)):016x}"


class FileSource:
    """The base of sources that read files: frozen dataclasses with these fields.

    Attributes:
      pattern: a file, a folder (its files with the known endings, at any depth) or a glob; on this
        machine or in an object store (s3://, gs://).
      key_field: the field that decides the split; None takes the whole record.
      heldout_fraction: share of the keys that is held out.
      on_error: "raise" stops at what cannot be read; "skip" leaves it out, counts it and logs how
        much it was, file by file.
    """

    pattern: str
    key_field: str | None
    heldout_fraction: float
    on_error: OnError

    ENDINGS: ClassVar[tuple[str, ...]] = ()
    DATA_FILES: ClassVar = ("pattern",)

    def __post_init__(self):
        check_domains(self, type(self).__name__)
        if (shown := redacted(self.pattern)) != self.pattern:
            # It would be in config.gin and in messages, for all who read the run.
            raise DataError(
                f"pattern={shown!r} holds a secret, which a run would record; give the store's "
                "credentials as for its own tools, such as in $AWS_SECRET_ACCESS_KEY."
            )

    def files(self) -> tuple[str, ...]:
        """Returns the files' names, sorted.

        Raises:
          DataError: if there are none.
        """
        return tuple(matching_files(self.pattern, self.ENDINGS)[1])

    def size_of(self, file: str) -> int:
        """Returns the bytes of a file."""
        return size_of(file)

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the entries of a file in order; after an error of the whole file nothing more."""
        raise NotImplementedError

    def extents(self, file: str, at_most: int) -> tuple[Extent, ...]:
        """Returns parts of a file, in order, of about so many bytes each, which together are it.

        None: the file can only be read from its beginning.
        """
        del file, at_most
        return ()

    def entries_of(self, file: str, extent: Extent) -> Iterator[Entry]:
        """Yields the entries that begin in one of a file's extents."""
        raise NotImplementedError

    def read_file(self, file: str, skipped: Skipped | None = None) -> Iterator[Record]:
        """Yields all records of a file.

        Args:
          file: one of `files()`.
          skipped: counts what is left out.

        Raises:
          DataError: at what cannot be read, unless `on_error` is "skip".
        """
        return self._kept(file, self._with_errors(file), skipped or Skipped())

    def read_part(self, file: str, extent: Extent, skipped: Skipped) -> Iterator[Record]:
        """Yields the records that begin in one of a file's extents; see `read_file`."""
        return self._kept(file, self._up_to_an_error(file, self.entries_of(file, extent)), skipped)

    def read(self, split: Split, skipped: Skipped | None = None) -> Iterator[Record]:
        """Yields the records of a split in the order of the files; raises as `read_file` does."""
        skipped = Skipped() if skipped is None else skipped
        kept = (
            record
            for file in self.files()
            for place, record in self._placed(file, self._with_errors(file), skipped)
            if belongs(record, split, self.heldout_fraction, self.key_field, place)
        )
        return some(kept, split, self.pattern)

    def content_digest(self) -> str:
        """Returns a text that changes with the name, size or time of a file."""
        stamps = [(file, stamp_of(file)) for file in self.files()]
        return f"{hash64(self, *stamps):016x}"

    def _kept(self, file: str, entries: Iterator[Entry], skipped: Skipped) -> Iterator[Record]:
        return (record for _, record in self._placed(file, entries, skipped))

    def _placed(
        self, file: str, entries: Iterator[Entry], skipped: Skipped
    ) -> Iterator[tuple[str, Record]]:
        for place, record in entries:
            if not isinstance(record, DataError):
                yield place, record
            elif self.on_error == "raise":
                raise record
            else:
                skipped.add(file, record)
        if skipped.of(file):
            logger.warning("%s: %d skipped", file, skipped.of(file))

    def _with_errors(self, file: str) -> Iterator[Entry]:
        """Yields the entries; an error on the way, or an empty file, is the last of them."""
        entry = None
        for entry in self._up_to_an_error(file, self.entries(file)):
            yield entry
        if entry is None:
            yield file, DataError(f'{file} is empty. Remove it, or set on_error="skip".')

    def _up_to_an_error(self, file: str, entries: Iterator[Entry]) -> Iterator[Entry]:
        try:
            yield from entries
        except DataError as error:
            yield file, error


def belongs(
    record: Record, split: Split, fraction: float, key_field: str | None, place: str
) -> bool:
    """Returns whether a record belongs to a split, by its key.

    Raises:
      DataError: if the record lacks the key field.
    """
    if key_field is None:
        key = record_text(record)
    elif key_field in record:
        key = str(record[key_field])
    else:
        raise DataError(
            f"{place}: no field {key_field!r} for the split; the record has {sorted(record)}."
        )
    return is_heldout(key, fraction) == (split == "heldout")


def some_share(records: Iterator[Record], share: float, key_field: str | None) -> Iterator[Record]:
    """Yields the records of a share, by a hash of their key or of all fields but the path.

    Raises:
      NoRecordsError: at the end, if there was none.
    """
    is_empty = True
    for record in records:
        content = {name: value for name, value in record.items() if name != "path"}
        key = record_text(content)
        if is_of_share(key if key_field is None else str(record[key_field]), share):
            is_empty = False
            yield record
    if is_empty:
        raise NoRecordsError(f"train_share={share} leaves no record; give a larger share.")


def some(records: Iterator[Record], split: Split, name: str) -> Iterator[Record]:
    """Yields the records; NoRecordsError at the end if there was none."""
    record = None
    for record in records:
        yield record
    if record is None:
        raise NoRecordsError(
            f"{name} has no record in the {split} split; give more records or another "
            "heldout_fraction."
        )
