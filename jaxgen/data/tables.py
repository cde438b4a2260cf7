"""Tables: Parquet, ArrayRecord, Hugging Face `datasets` on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from jaxgen.data.sources import Entry, Extent, FileSource, OnError
from jaxgen.data.storage import is_remote, local_copy, open_binary
from jaxgen.data.text_files import json_record, parse_json
from jaxgen.data.token_store import cache_folder
from jaxgen.domains import UnitFraction
from jaxgen.errors import DataError
from jaxgen.json_values import check_file_name, check_shape

ROWS_AT_ONCE, BYTES_AT_ONCE = 1024, 16 * 2**20
ARRAY_RECORD_ERRORS = (ValueError, IndexError, RuntimeError, OSError)


@dataclasses.dataclass(frozen=True)
class Parquet(FileSource):
    """Reads one record per row of Parquet files, split by key, by row groups.

    Attributes:
      pattern: see `FileSource`.
      columns: those that are read; None reads all.
      key_field: the column that decides the split; None takes the whole row.
      heldout_fraction: see `FileSource`.
      on_error: likewise; the rest of a file that is damaged.
    """

    pattern: str
    columns: tuple[str, ...] | None = None
    key_field: str | None = None
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"

    ENDINGS: ClassVar[tuple[str, ...]] = (".parquet",)

    def extents(self, file: str, at_most: int) -> tuple[Extent, ...]:
        """Returns ranges of row groups; none of a damaged file, which is for its reader to say."""
        from pyarrow import ArrowException, parquet

        try:
            with open_binary(file) as stream:
                metadata = parquet.ParquetFile(stream).metadata
        except (ArrowException, UnicodeDecodeError, OSError):
            return ()
        sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        starts, size = [0], 0
        for group, of_group in enumerate(sizes):
            if size and size + of_group > at_most:
                starts.append(group)
                size = 0
            size += of_group
        return tuple(Extent(a, b) for a, b in itertools.pairwise([*starts, len(sizes)]))

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the rows, in order."""
        return self.entries_of(file, Extent(0))

    def entries_of(self, file: str, extent: Extent) -> Iterator[Entry]:
        """Yields the rows of row groups, in order."""
        from pyarrow import ArrowException, parquet

        count = 0
        with open_binary(file) as stream:
            try:
                table = parquet.ParquetFile(stream)
                groups = range(table.num_row_groups)[extent.start : extent.stop]
                before = sum(table.metadata.row_group(i).num_rows for i in range(extent.start))
                names = table.schema_arrow.names
                missing = set(self.columns or ()) - set(names)
                if missing:
                    raise DataError(f"{file} has no column {sorted(missing)}; it has {names}.")
                columns = None if self.columns is None else list(self.columns)
                for batch in table.iter_batches(ROWS_AT_ONCE, groups, columns):
                    batch.validate(full=True)
                    for record in _rows_of(batch):
                        yield f"{file}, row {before + count}", record
                        count += 1
            except (ArrowException, UnicodeDecodeError, OSError) as error:
                raise cut_off(file, "Parquet", count, error) from error


@dataclasses.dataclass(frozen=True)
class ArrayRecord(FileSource):
    """Reads one JSON record per entry of ArrayRecord files, split by key.

    Files in an object store are copied to the cache first, as the reader needs local files.

    Attributes:
      pattern: see `FileSource`.
      key_field: likewise.
      heldout_fraction: likewise.
      on_error: likewise; an entry that is not JSON, or a whole file that is damaged.
    """

    pattern: str
    key_field: str | None = None
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"

    ENDINGS: ClassVar[tuple[str, ...]] = (".array_record", ".arrayrecord")

    def extents(self, file: str, at_most: int) -> tuple[Extent, ...]:
        """Returns ranges of entries; none of a damaged file, which is for its reader to say."""
        try:
            with _array_record(file) as reader:
                total = reader.num_records()
        except ARRAY_RECORD_ERRORS:
            return ()
        each = max(1, total * at_most // max(1, self.size_of(file)))
        return tuple(Extent(start, min(start + each, total)) for start in range(0, total, each))

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the entries, in order."""
        return self.entries_of(file, Extent(0))

    def entries_of(self, file: str, extent: Extent) -> Iterator[Entry]:
        """Yields a range of the entries, in order."""
        count = extent.start
        try:
            with _array_record(file) as reader:
                total = reader.num_records() if extent.stop is None else extent.stop
                for first in range(extent.start, total, ROWS_AT_ONCE):
                    for data in reader.read(first, min(first + ROWS_AT_ONCE, total)):
                        place = f"{file}, record {count}"
                        count += 1
                        yield place, json_record(data, place)
        except ARRAY_RECORD_ERRORS as error:
            raise cut_off(file, "ArrayRecord", count, error) from error


@contextlib.contextmanager
def _array_record(file: str) -> Iterator[Any]:
    """Opens the reader of a file, whose copy is in the cache if it is in an object store."""
    from array_record.python.array_record_module import ArrayRecordReader

    # The reader takes a missing path for an empty file; this one has just been found.
    reader = ArrayRecordReader(local_copy(file, cache_folder().parent / "remote"))
    try:
        yield reader
    finally:
        reader.close()


@dataclasses.dataclass(frozen=True)
class HuggingFaceDataset(FileSource):
    """Reads one record per row of a dataset that Hugging Face `datasets` saved to disk.

    Attributes:
      pattern: the folder.
      part: which dataset of a DatasetDict, such as "train"; None where there is only one.
      columns: those that are read; None reads all.
      key_field: see `FileSource`.
      heldout_fraction: likewise.
      on_error: likewise; the rest of a file that is damaged.
    """

    pattern: str
    part: str | None = None
    columns: tuple[str, ...] | None = None
    key_field: str | None = None
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"

    def files(self) -> tuple[str, ...]:
        """Returns the Arrow files, in the dataset's own order."""
        folder = self.pattern.rstrip("/")
        parts = _read_json(f"{folder}/dataset_dict.json", optional=True)
        if parts is not None:
            if self.part not in (parts.get("splits") or []):
                raise DataError(
                    f"{folder} holds the datasets {parts.get('splits')}; set hf_dataset.part to "
                    f"one of them (it is {self.part!r})."
                )
            folder = f"{folder}/{self.part}"
        elif self.part is not None:
            raise DataError(f"{folder} is one dataset; leave out hf_dataset.part={self.part!r}.")
        state = _read_json(f"{folder}/state.json", optional=False)
        assert state is not None
        if state.get("_indices_data_files"):
            raise DataError(
                f"{folder} was saved with an index over its rows; save it again after "
                "flatten_indices()."
            )
        try:
            check_shape(state, {"_data_files": [{"filename": check_file_name}]})
        except ValueError as error:
            raise DataError(f"{folder}/state.json: {error}.") from error
        return tuple(f"{folder}/{file['filename']}" for file in state["_data_files"])

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the rows, in order."""
        import pyarrow

        count = 0
        try:
            source = open_binary(file) if is_remote(file) else pyarrow.memory_map(file)
            with source, pyarrow.ipc.open_stream(source) as reader:
                missing = set(self.columns or ()) - set(reader.schema.names)
                if missing:
                    raise DataError(
                        f"{file} has no column {sorted(missing)}; it has {reader.schema.names}."
                    )
                for batch in reader:
                    batch.validate(full=True)  # Offsets that lead elsewhere would be followed.
                    if self.columns is not None:
                        batch = batch.select(list(self.columns))
                    for record in _rows_of(batch):
                        yield f"{file}, row {count}", record
                        count += 1
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            raise cut_off(file, "Arrow", count, error) from error


def _rows_of(batch: Any) -> Iterator[dict[str, Any]]:
    """Yields the rows of an Arrow batch; few at once where they are long, as with pictures."""
    size = max(1, batch.nbytes // max(1, batch.num_rows))
    step = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // size))
    for start in range(0, batch.num_rows, step):
        yield from batch.slice(start, step).to_pylist()


def _read_json(path: str, optional: bool) -> dict[str, Any] | None:
    if optional and not is_remote(path) and not Path(path).exists():
        return None
    try:
        with open_binary(path) as stream:
            found = parse_json(stream.read(), path)
        if not isinstance(found, dict):
            raise DataError(f"{path} is no JSON object.")
        return found
    except DataError as error:
        if optional:
            return None
        raise DataError(
            f"{error} A folder that `datasets` wrote with save_to_disk has this file."
        ) from error


def cut_off(file: str, kind: str, count: int, error: Exception) -> DataError:
    """Returns the error about a file that is not whole."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{file} is not a whole {kind} file: cut off or damaged after {count} whole records "
        f'({reason}). Fetch it again, or set on_error="skip" to take those.'
    )
