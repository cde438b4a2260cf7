"""The settings of a preparation."""

from __future__ import annotations

import dataclasses

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet, WebDataset
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.errors import ConfigError
from jaxgen.preparation.decontamination import Decontaminate
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.filters import Filter
from jaxgen.preparation.scrubbing import Scrub

AnyFiles = TextFiles | Jsonl | Parquet | ArrayRecord | HuggingFaceDataset | WebDataset


@dataclasses.dataclass(frozen=True)
class Preparation:
    """From raw files to tokenised shards.

    Attributes:
      sources: of the documents, in the order that decides which of equal ones is the first.
      codec: text to tokens.
      field: the records' field that holds the text.
      filters: all of which a document must pass, in this order.
      scrub: personal data to replace; None: none.
      exact_duplicates: whether documents equal to an earlier one, but for case and spaces, go.
      near_duplicates: which nearly equal ones go; None: none.
      decontaminate: what documents must not hold; None: nothing is looked for.
      heldout_fraction: share of the documents that is held out, by a hash of the text.
      item_bytes: files are worked on in groups of about this size; each makes one shard.
    """

    sources: tuple[AnyFiles, ...]
    codec: ByteCodec | TokenizerCodec | SentencePieceCodec = ByteCodec()
    field: str = "text"
    filters: tuple[Filter, ...] = ()
    scrub: Scrub | None = None
    exact_duplicates: bool = True
    near_duplicates: NearDuplicates | None = None
    decontaminate: Decontaminate | None = None
    heldout_fraction: float = 0.01
    item_bytes: int = 64 * 2**20

    def __post_init__(self):
        if not self.sources:
            raise ConfigError("preparation.sources is empty: name at least one source.")
        looked_for = self.decontaminate
        if looked_for is not None and not looked_for.tasks and not looked_for.sources:
            raise ConfigError("decontaminate needs decontaminate.tasks or decontaminate.sources.")
        if not 0 <= self.heldout_fraction < 1:
            raise ConfigError(
                f"preparation.heldout_fraction={self.heldout_fraction} must be 0 or more, below 1."
            )
        if self.item_bytes < 1:
            raise ConfigError(f"preparation.item_bytes={self.item_bytes} must be positive.")
