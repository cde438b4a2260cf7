"""SentencePiece models (1808.06226), as T5, Llama 2 and Gemma have them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxgen.codecs.bytes import visible
from jaxgen.codecs.codec import check_characters
from jaxgen.codecs.joint import Encoded, Piece, encode_sections
from jaxgen.codecs.kept_file import KeptFile
from jaxgen.codecs.special import BEGIN, END, PAD, SpecialTokens, find_special
from jaxgen.errors import DataError

NAME_IN_RUN = "tokenizer.model"


@dataclasses.dataclass(frozen=True)
class SentencePieceCodec(KeptFile):
    """A .model file. Most of them normalise text, so not every text comes back.

    Control tokens that the model has no id for stand after its last one.

    Attributes:
      path: the file.
      digest: the sha256 of the file, checked when it is read; None takes the file's own.
      special: control tokens beside those for padding, begin and end.
    """

    path: str = dataclasses.field(compare=False)
    digest: str = None  # pyright: ignore[reportAssignmentType]
    special: SpecialTokens | None = None

    KEPT_FILES: ClassVar[dict[str, str]] = {"path": NAME_IN_RUN}

    def __post_init__(self):
        try:
            content = pathlib.Path(self.path).read_bytes()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror}).") from error
        found = hashlib.sha256(content).hexdigest()[:16]
        if self.digest is not None and self.digest != found:
            raise DataError(
                f"the tokenizer {self.path} has digest {found}, and the configuration "
                f"{self.digest}: "
                "put that file back, or train anew with this one."
            )
        object.__setattr__(self, "digest", found)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _processor(self) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise DataError(
                f'{self.path} needs SentencePiece: pip install "jaxgen[sentencepiece]".'
            ) from error
        try:
            processor: Any = SentencePieceProcessor(model_file=self.path)
            processor.id_to_piece(list(range(processor.get_piece_size())))
        except (RuntimeError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} is not a SentencePiece model.") from error
        return processor

    @functools.cached_property
    def _special_ids(self) -> dict[str, int]:
        processor = self._processor
        own = {PAD: processor.pad_id(), BEGIN: processor.bos_id(), END: processor.eos_id()}
        pieces = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())
                  if processor.is_control(i) or processor.is_unknown(i)}  # fmt: skip
        ids = pieces | {name: number for name, number in own.items() if number >= 0}
        for name in (PAD, BEGIN, END, *(() if self.special is None else self.special.names)):
            ids.setdefault(name, processor.get_piece_size() + sum(
                number >= processor.get_piece_size() for number in ids.values()
            ))  # fmt: skip
        return ids

    @property
    def vocab_size(self) -> int:
        """Returns the number of pieces and of the control tokens after them."""
        return max(self._processor.get_piece_size(), max(self._special_ids.values()) + 1)

    @property
    def pad_id(self) -> int:
        return self._special_ids[PAD]

    @property
    def begin_id(self) -> int:
        return self._special_ids[BEGIN]

    @property
    def end_id(self) -> int:
        return self._special_ids[END]

    @property
    def plain_ids(self) -> np.ndarray:
        """Returns all ids but those of control tokens, [plain] int32."""
        return np.setdiff1d(np.arange(self.vocab_size), list(self._special_ids.values()))

    def special_id(self, name: str) -> int:
        """Returns the id of a control token; DataError if there is none of this name."""
        return find_special(name, self._special_ids, f"the tokenizer {self.path}")

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Returns the ids [length] int32 of a text, without begin and end."""
        if parse_special:
            return self.encode_pieces([(text, True)])[0]
        return np.array(self._processor.encode(check_characters(text)), np.int32)

    def encode_pieces(self, pieces: Sequence[Piece]) -> Encoded:
        """Encodes the pieces of one text; see `codecs.joint`."""
        return encode_sections(pieces, self._special_ids, self._located)

    def _located(self, text: str) -> Encoded:
        found = self._processor.encode(check_characters(text), return_type="offset_mapping")
        offsets = np.array(found["offsets"], np.int32).reshape(-1, 2)
        # Of the bytes of a character, and of the letters that it is normalised to, all but the last
        # have an empty span before it; each stands for that character.
        is_empty = offsets[:, 0] == offsets[:, 1]
        offsets[is_empty, 1] = np.minimum(offsets[is_empty, 0] + 1, len(text))
        return np.array(found["ids"], np.int32), offsets

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes each text, on all cores."""
        return [
            np.array(ids, np.int32)
            for ids in self._processor.encode([check_characters(text) for text in texts])
        ]

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Returns the text of ids; control tokens are left out, or are their names."""
        names = {number: name for name, number in self._special_ids.items()}
        parts, plain = [], []
        for number in map(int, ids):
            if number in names:
                parts.append(self._processor.decode(plain))
                parts.append(names[number] if keep_special else "")
                plain = []
            else:
                plain.append(number)
        return "".join([*parts, self._processor.decode(plain)])

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Returns each token's text by itself, spaces made visible."""
        names = {number: name for name, number in self._special_ids.items()}
        size = self._processor.get_piece_size()
        return [
            names.get(i) or visible(self._processor.id_to_piece(i).replace("▁", " ").encode())
            if i < size or i in names else f"#{i}"
            for i in map(int, ids)
        ]  # fmt: skip
