"""The settings of a preparation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.codec import Codec
from jaxgen.data.protocols import Record
from jaxgen.data.sources import Extent, OnError, Skipped
from jaxgen.domains import PositiveInt, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.preparation.decontamination import Decontaminate
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.filters import Filter
from jaxgen.preparation.scrubbing import Scrub


@runtime_checkable
class FilesSource(Protocol):
    """A source that is read file by file, so that files can be divided among workers.

    Attributes:
      on_error: "raise" stops at a record that cannot be read; "skip" counts and leaves it out.
    """

    @property
    def on_error(self) -> OnError: ...

    def files(self) -> tuple[str, ...]:
        """Returns the files' names, sorted; raises DataError if there are none."""
        ...

    def size_of(self, file: str) -> int:
        """Returns the bytes of a file."""
        ...

    def read_file(self, file: str, skipped: Skipped, /) -> Iterator[Record]:
        """Yields the records of a file, and counts those that it leaves out."""
        ...


@runtime_checkable
class DivisibleSource(FilesSource, Protocol):
    """A source whose large files can be divided among workers, too."""

    def extents(self, file: str, at_most: int, /) -> tuple[Extent, ...]:
        """Returns parts of a file; see `FileSource.extents`."""
        ...

    def read_part(self, file: str, extent: Extent, skipped: Skipped, /) -> Iterator[Record]:
        """Yields the records that begin in a part, and counts those that it leaves out."""
        ...


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A preparation turns raw files into tokenised shards.

    Attributes:
      sources: the sources of the documents; of equal documents the first in this order stays.
      codec: turns text into tokens.
      field: the records' field that holds the text.
      filters: predicates that a document must pass, in this order.
      scrub: personal data to replace; None: none.
      exact_duplicates: whether to remove documents that equal an earlier one but for case and
        spaces.
      near_duplicates: which nearly equal documents to remove; None: none.
      decontaminate: evaluation items that documents must not hold; None: none.
      heldout_fraction: share of the documents that is held out, by a hash of the text.
      item_bytes: files are worked on in groups, or parts, of about this size; each makes one shard.
    """

    sources: tuple[FilesSource, ...]
    codec: Codec = ByteCodec()
    field: str = "text"
    filters: tuple[Filter, ...] = ()
    scrub: Scrub | None = None
    exact_duplicates: bool = True
    near_duplicates: NearDuplicates | None = None
    decontaminate: Decontaminate | None = None
    heldout_fraction: ProperFraction = 0.01
    item_bytes: PositiveInt = 64 * 2**20

    def __post_init__(self):
        check_domains(self, "preparation")
        if not self.sources:
            raise ConfigError("preparation.sources is empty: name at least one source.")
        looked_for = self.decontaminate
        if looked_for is not None and not looked_for.tasks and not looked_for.sources:
            raise ConfigError("decontaminate needs decontaminate.tasks or decontaminate.sources.")
