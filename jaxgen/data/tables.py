"""Records from Parquet and ArrayRecord files."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import numpy as np

from jaxgen.data.files import matching_files
from jaxgen.data.hashing import hash64
from jaxgen.data.sources import Record, Records, Split, belongs, not_empty, select
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class Parquet:
    """One record a row of Parquet files, split by key.

    Attributes:
      pattern: a file, a folder or a glob.
      columns: those that are read; None reads all.
      key_field: the column that decides the split; None takes the whole row.
      heldout_fraction: share of the keys that is held out.
    """

    pattern: str
    columns: tuple[str, ...] | None = None
    key_field: str | None = None
    heldout_fraction: float = 0.01

    def open(self, split: Split) -> Records:
        """The rows of a split, in the order of files and rows."""
        from pyarrow import ArrowInvalid, parquet

        _, files = matching_files(self.pattern, (".parquet",))
        records = []
        for file in files:
            columns = None if self.columns is None else list(self.columns)
            try:
                table = parquet.ParquetFile(file)
                missing = set(columns or ()) - set(table.schema_arrow.names)
                if missing:
                    raise DataError(
                        f"{file} has no column {sorted(missing)}; it has "
                        f"{table.schema_arrow.names}."
                    )
                records.extend(table.read(columns=columns).to_pylist())
            except (ArrowInvalid, OSError) as error:
                raise DataError(f"{file} is not a whole Parquet file: {error}.") from error
        return select(records, split, self.heldout_fraction, self.key_field, self.pattern)

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> str:
        """Changes with the name, size or time of a file."""
        return _digest(self.pattern, ".parquet", dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class ArrayRecord:
    """One JSON record an entry of ArrayRecord files, split by key; read as it is asked for.

    Attributes:
      pattern: a file, a folder or a glob.
      key_field: the field that decides the split; None takes the whole record.
      heldout_fraction: share of the keys that is held out.
    """

    pattern: str
    key_field: str | None = None
    heldout_fraction: float = 0.01

    def open(self, split: Split) -> ArrayRecords:
        """The records of a split, in the order of files and entries."""
        # The reader takes a missing path for an empty file, so paths are looked up here.
        _, files = matching_files(self.pattern, (".array_record", ".arrayrecord"))
        paths = tuple(str(file) for file in files)
        everything = ArrayRecords(paths, None)
        indices = [
            index
            for index in range(len(everything))
            if belongs(
                everything[index], split, self.heldout_fraction, self.key_field,
                f"{self.pattern}, record {index}",
            )
        ]  # fmt: skip
        not_empty(indices, split, self.pattern)  # pyright: ignore[reportArgumentType]
        return ArrayRecords(paths, np.array(indices, np.int64))

    def read(self, split: Split):
        """The records of a split, one after another."""
        records = self.open(split)
        return (records[index] for index in range(len(records)))

    def content_digest(self) -> str:
        """Changes with the name, size or time of a file."""
        return _digest(self.pattern, ".array_record", dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class ArrayRecords:
    """Random access to chosen entries of ArrayRecord files; picklable, opened where it is used."""

    paths: tuple[str, ...]
    indices: np.ndarray | None

    @functools.cached_property
    def _source(self) -> Any:
        import grain

        return grain.sources.ArrayRecordDataSource(list(self.paths))

    def __getstate__(self) -> dict[str, object]:
        return {"paths": self.paths, "indices": self.indices}

    def __len__(self) -> int:
        return len(self._source) if self.indices is None else len(self.indices)

    def __getitem__(self, index: int) -> Record:
        position = index if self.indices is None else int(self.indices[index])
        data = self._source[position]
        try:
            return json.loads(data)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{self.paths}, record {position}: not JSON ({error}).") from error


def _digest(pattern: str, ending: str, settings: tuple) -> str:
    _, files = matching_files(pattern, (ending,))
    stats = [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{hash64(*settings, *stats):016x}"
