"""Text files: one record per file, or per line of JSON, plain or compressed."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from jaxgen import json_values
from jaxgen.data.hashing import hash64, is_heldout
from jaxgen.data.protocols import Record, Split
from jaxgen.data.sources import Entry, Extent, FileSource, OnError, Skipped, some
from jaxgen.data.storage import matching_files, open_binary
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import DataError

BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True)
class TextFiles(FileSource):
    """Reads one record {"text", "path"} per file, split by file.

    Attributes:
      pattern: a folder (all files below it that look like text by their ending), a file, or a glob
        such as "books/**/*.txt"; on this machine or in an object store.
      endings: which files of a folder are taken.
      heldout_fraction: share of the files that is held out, by a hash of the path; with few files
        the ones of smallest hash, at least one.
      on_error: "raise" stops at a file that is empty or not UTF-8; "skip" leaves it out, and logs
        how many were.
    """

    pattern: str
    endings: tuple[str, ...] = (".txt", ".md", ".rst", ".py", ".tex", ".org", ".html", ".csv")
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"

    def files(self) -> tuple[str, ...]:
        """Returns the files' names, sorted; raises DataError if there are none."""
        return tuple(matching_files(self.pattern, self.endings)[1])

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the file's text."""
        with open_binary(file) as stream:
            text = as_text(stream.read(), file)
        if text.strip():
            yield file, {"text": text, "path": file}

    def read(self, split: Split, skipped: Skipped | None = None) -> Iterator[Record]:
        """Yields the files of a split, in the order of their names."""
        skipped = Skipped() if skipped is None else skipped
        files = self._of_split(split)
        return some(
            (r for file in files for r in self.read_file(file, skipped)), split, self.pattern
        )

    def _of_split(self, split: Split) -> list[str]:
        root, files = matching_files(self.pattern, self.endings)
        keys = {file: file.removeprefix(root).lstrip("/") for file in files}
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
class Jsonl(FileSource):
    """Reads one record per line of JSON-lines files (.jsonl, .jsonl.gz, .jsonl.zst), split by key.

    Attributes:
      pattern: see `FileSource`.
      key_field: likewise.
      heldout_fraction: likewise.
      on_error: likewise; a line, or the rest of a file that is cut off.
      max_line_bytes: a longer line is an error, before it fills the memory.
    """

    pattern: str
    key_field: str | None = None
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"
    max_line_bytes: PositiveInt = 64 * 2**20

    ENDINGS: ClassVar[tuple[str, ...]] = (".jsonl", ".jsonl.gz", ".jsonl.zst")

    def extents(self, file: str, at_most: int) -> tuple[Extent, ...]:
        """Returns ranges of bytes of a file that is not compressed."""
        if file.endswith((".gz", ".zst")):
            return ()
        starts = range(0, self.size_of(file), at_most)
        return tuple(Extent(start, start + at_most) for start in starts)

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the lines that are not blank, in order."""
        return self.entries_of(file, Extent(0))

    def entries_of(self, file: str, extent: Extent) -> Iterator[Entry]:
        """Yields the lines that begin in a range of bytes and are not blank, in order."""
        count, number, position = 0, 0, extent.start
        with open_decompressed(file) as stream:
            if position:
                # The line before the range is another's, unless it ends there.
                stream.seek(position - 1)
                position += self._skip_line(stream) - 1
            while extent.stop is None or position < extent.stop:
                number += 1
                place = f"{file}:byte {position}" if extent.start else f"{file}:{number}"
                try:
                    line = stream.readline(self.max_line_bytes + 1)
                except (EOFError, OSError, zlib.error) as error:
                    raise DataError(
                        f"{file} is cut off or damaged after {count} whole records ({error}). "
                        'Fetch it again, or set on_error="skip" to take those.'
                    ) from error
                if not line:
                    return
                position += len(line)
                if len(line) > self.max_line_bytes:
                    position += 0 if line.endswith(b"\n") else self._skip_line(stream)
                    yield (
                        place,
                        DataError(
                            f"{place}: the line is longer than {self.max_line_bytes} bytes; raise "
                            "jsonl.max_line_bytes to allow it."
                        ),
                    )
                elif line.strip():
                    entry = json_record(
                        line.removeprefix(BOM) if number == 1 and not extent.start else line, place
                    )
                    count += not isinstance(entry, DataError)
                    yield place, entry

    def _skip_line(self, stream: Any) -> int:
        """Reads to the end of a line, and returns the number of bytes."""
        count = 0
        while line := stream.readline(self.max_line_bytes):
            count += len(line)
            if line.endswith(b"\n"):
                break
        return count


def json_record(data: bytes, place: str) -> Record | DataError:
    """Returns a JSON object, or the error about it."""
    try:
        record = parse_json(data, place)
    except DataError as error:
        return error
    if isinstance(record, dict):
        return record
    return DataError(f"{place}: not a JSON object: {data[:40]!r}.")


def parse_json(data: bytes, place: str) -> Any:
    """Returns a JSON value.

    Raises:
      DataError: naming the place; also for what is JSON but more than Python reads, such as a
        number of thousands of digits or brackets nested thousands deep.
    """
    text = as_text(data, place, with_line=False)
    try:
        return json_values.parse_json(text, parse_int=int)
    except ValueError as error:
        raise DataError(
            f'{place}: not JSON ({error}). Mend or remove it, or set on_error="skip" to leave out '
            "and count such records."
        ) from error


def as_text(data: bytes, place: str, with_line: bool = True) -> str:
    """Returns bytes as UTF-8 text, a byte order mark left out.

    Raises:
      DataError: naming the place, the line if asked for, and the byte.
    """
    try:
        return data.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = f":{data.count(10, 0, error.start) + 1}" if with_line else ""
        what = "it is UTF-16" if data.startswith(UTF16) else f"byte {data[error.start]:#04x}"
        raise DataError(
            f"{place}{line}: not UTF-8 ({what}). Convert the file (iconv), "
            'leave it out, or set on_error="skip".'
        ) from error


@contextlib.contextmanager
def open_decompressed(file: str) -> Iterator[Any]:
    """Opens a file's bytes, decompressed by its ending: .gz, .tgz or .zst."""
    with open_binary(file) as stream:
        if file.endswith((".gz", ".tgz")):
            with gzip.GzipFile(fileobj=stream) as inner:
                yield io.BufferedReader(inner, 2**20)  # pyright: ignore[reportArgumentType]
        elif file.endswith(".zst"):
            yield io.BufferedReader(_Zstandard(stream), 2**20)
        else:
            yield stream


class _Zstandard(io.RawIOBase):
    """Frames of zstandard one after another; unlike the library's reader it notices a cut."""

    def __init__(self, stream: BinaryIO):
        import zstandard

        self._stream, self._make = stream, zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._frame, self._is_open = self._make(), False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            # A frame may be 30,000 times as long as its bytes: little is decompressed at a time.
            data = self._stream.read(512)
            if not data:
                if self._is_open:
                    raise EOFError("a compressed frame has no end")
                return 0
            while data:
                try:
                    self._ready += self._frame.decompress(data)
                except self._error as error:
                    raise OSError(str(error)) from error
                self._is_open = not self._frame.eof
                data = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = self._make()
        taken = self._ready[: len(buffer)]
        self._ready = self._ready[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)
