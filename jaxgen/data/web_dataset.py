"""Archives of samples, each of several members: WebDataset."""

from __future__ import annotations

import dataclasses
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar

from jaxgen.data.protocols import Record
from jaxgen.data.sources import Entry, FileSource, OnError
from jaxgen.data.tables import cut_off
from jaxgen.data.text_files import as_text, open_decompressed, parse_json
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import DataError

MOST_HEADER_BYTES = 2**20
EXTENDING = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
"""Types of members that are headers of the next one, which tarfile reads whole."""


@dataclasses.dataclass(frozen=True)
class WebDataset(FileSource):
    """Reads one record per sample of tar archives: the members that share a name but its ending.

    A member's ending names the field: "txt" and its like are text, "json" is parsed, "cls" is a
    number, others are bytes; capitals of an ending are made small. The field "__key__" is the
    shared name.

    Attributes:
      pattern: see `FileSource`.
      key_field: likewise.
      heldout_fraction: likewise.
      on_error: likewise; a sample that cannot be decoded, or the rest of an archive that is cut
        off.
      max_member_bytes: a longer member is an error, before it fills the memory.
    """

    pattern: str
    key_field: str | None = "__key__"
    heldout_fraction: UnitFraction = 0.01
    on_error: OnError = "raise"
    max_member_bytes: PositiveInt = 256 * 2**20

    ENDINGS: ClassVar[tuple[str, ...]] = (".tar", ".tar.gz", ".tgz", ".tar.zst")
    TEXT: ClassVar[tuple[str, ...]] = ("txt", "text", "caption", "transcript")

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the samples, in the order of the archive."""
        count = 0
        sample: Record = {}
        error: DataError | None = None
        with open_decompressed(file) as stream:
            has_end = _has_end(stream) if file.endswith(".tar") else True
            try:
                with tarfile.open(fileobj=stream, mode="r|", tarinfo=_BoundedHeader) as archive:
                    for member in archive:
                        if not member.isfile():
                            continue
                        folder, _, name = member.name.rpartition("/")
                        stem, _, ending = name.partition(".")
                        ending = ending.lower()  # As the library of that name has it.
                        key = f"{folder}/{stem}" if folder else stem
                        if sample and sample["__key__"] != key:
                            yield f"{file}, {sample['__key__']}", error or sample
                            sample, error, count = {}, None, count + 1
                        sample["__key__"] = key
                        inside = archive.extractfile(member)
                        assert inside is not None
                        place = f"{file}, {member.name}"
                        if member.size > self.max_member_bytes:
                            error = DataError(
                                f"{place}: longer than {self.max_member_bytes} bytes; raise "
                                "webdataset.max_member_bytes to allow it."
                            )
                            continue
                        try:
                            sample[ending] = _decoded(inside.read(), ending, self.TEXT, place)
                        except DataError as wrong:
                            error = wrong
                if not has_end:
                    raise EOFError("the archive has no end")
            except (tarfile.TarError, EOFError, OSError, zlib.error) as wrong:
                raise cut_off(file, "tar", count, wrong) from wrong
        if sample:
            yield f"{file}, {sample['__key__']}", error or sample


class _BoundedHeader(tarfile.TarInfo):
    """A header whose further fields (long names, pax) are no more than a few pages."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Any:
        found = super().frombuf(buf, encoding, errors)  # pyright: ignore[reportArgumentType]
        if found.type in EXTENDING and not 0 <= found.size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


def _has_end(stream: BinaryIO) -> bool:
    """Returns whether an archive ends with two empty blocks, as one cut off may not."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 1024))
    is_empty = stream.read() == bytes(1024)
    stream.seek(0)
    return is_empty


def _decoded(data: bytes, ending: str, text: tuple[str, ...], place: str) -> Any:
    if ending in text:
        return as_text(data, place)
    try:
        if ending == "json":
            return parse_json(data, place)
        return int(data) if ending == "cls" else data
    except ValueError as error:
        raise DataError(f"{place}: not a valid .{ending} ({error}).") from error
