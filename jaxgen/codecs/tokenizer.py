"""Any Hugging Face tokenizer.json, run by `tokenizers`."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from tokenizers import Encoding, Tokenizer

from jaxgen.codecs.bytes import visible
from jaxgen.codecs.codec import check_characters
from jaxgen.codecs.joint import Encoded, Piece, encode_sections
from jaxgen.codecs.kept_file import KeptFile
from jaxgen.codecs.special import BEGIN, END, PAD, find_special
from jaxgen.errors import DataError

NAME_IN_RUN = "tokenizer.json"


def read_tokenizer(path: str) -> Tokenizer:
    """Returns the tokenizer of a file.

    Raises:
      DataError: if it is no tokenizer.json, or one that the library cannot take.
    """
    try:
        return Tokenizer.from_file(path)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A panic of the library is no Exception.
        raise DataError(f"{path} is not a tokenizer.json: {error}.") from error


@dataclasses.dataclass(frozen=True)
class TokenizerCodec(KeptFile):
    """A tokenizer.json whose tokens for padding, begin and end have names, by default jaxgen's own.

    A file that has fewer, as GPT-2's has `<|endoftext|>` alone, lets one token do for several.

    Attributes:
      path: the file.
      digest: the sha256 of the file, checked when it is read. A configuration that has one refuses
        any other tokenizer; None takes the file's own.
      pad: the token that fills rows.
      begin: the token before a text that has nothing before it.
      after_begin: further tokens between `begin` and the text.
      end: the token that ends a document or an answer.
      stops: further tokens that end what is generated.
      adds_begin: whether texts begin with `begin` and those after it, in training as in evaluation.
    """

    path: str = dataclasses.field(compare=False)
    digest: str = None  # pyright: ignore[reportAssignmentType]
    pad: str = PAD
    begin: str = BEGIN
    end: str = END
    stops: tuple[str, ...] = ()
    adds_begin: bool = True
    after_begin: tuple[str, ...] = ()

    WHAT: ClassVar[str] = "tokenizer"
    MADE_BY: ClassVar[str] = "jaxgen tokenizer train TEXT --output tokenizer.json"
    UNDERSTOOD: ClassVar[str] = "tokenizer"
    KEPT_FILES: ClassVar[dict[str, str]] = {"path": NAME_IN_RUN}

    def __post_init__(self):
        self.read_digest()

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = read_tokenizer(self.path)
        special = (self.pad, self.begin, *self.after_begin, self.end, *self.stops)
        missing = [token for token in special if tokenizer.token_to_id(token) is None]
        if missing:
            raise DataError(
                f"the tokenizer {self.path} lacks the control tokens {missing}: name those that it "
                "has, one for several if need be (tokenizer_codec.pad, .begin, .end), or make one "
                "with `jaxgen tokenizer train`."
            )
        # The name of a special token inside a text is text, never the control token itself.
        tokenizer.encode_special_tokens = True
        return tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def vocab_size(self) -> int:
        """Returns the number of ids, special tokens included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def pad_id(self) -> int:
        return self._special_id(self.pad)

    @property
    def begin_id(self) -> int:
        return self._special_id(self.begin)

    @property
    def begin_ids(self) -> tuple[int, ...]:
        return tuple(map(self._special_id, (self.begin, *self.after_begin)))

    @property
    def end_id(self) -> int:
        return self._special_id(self.end)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(map(self._special_id, (self.end, *self.stops)))

    def _special_id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None, "checked when the file was read"
        return found

    @functools.cached_property
    def _special_ids(self) -> dict[str, int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}

    @functools.cached_property
    def _plain_ids(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.vocab_size), list(self._special_ids.values()))

    @property
    def plain_ids(self) -> np.ndarray:
        """Returns all ids but those of control tokens."""
        return self._plain_ids

    def has_special(self, name: str) -> bool:
        """Returns whether there is a control token of this name."""
        return name in self._special_ids

    def special_id(self, name: str) -> int:
        """Returns the id of a control token; DataError if there is none of this name."""
        return find_special(name, self._special_ids, f"the tokenizer {self.path}")

    def special_name(self, number: int) -> str:
        """Returns the name of the control token of an id; DataError if it is none."""
        for name, found in self._special_ids.items():
            if found == number:
                return name
        raise DataError(f"the tokenizer {self.path} has no control token of id {number}.")

    def encode(self, text: str, *, parse_special: bool = False) -> np.ndarray:
        """Returns the ids [length] int32 of a text."""
        return np.array(self._encoded(text, parse_special).ids, np.int32)

    def encode_pieces(self, pieces: Sequence[Piece]) -> Encoded:
        """Encodes the pieces of one text; see `codecs.joint`."""
        text = "".join(piece for piece, _ in pieces)
        ids, offsets = self._located(text, any(is_control for _, is_control in pieces))
        controls = np.isin(ids, self._control_ids, kind="table")
        is_control = np.repeat(
            [is_control for _, is_control in pieces], [len(p) for p, _ in pieces]
        )
        if not is_control[offsets[controls, 0]].all():
            # A message writes the name of a control token.
            return encode_sections(pieces, self._special_ids, self._located)
        return ids, offsets

    def _located(self, text: str, parse_special: bool = False) -> Encoded:
        encoded = self._encoded(text, parse_special)
        offsets = np.array(encoded.offsets, np.int32).reshape(-1, 2)
        return np.array(encoded.ids, np.int32), offsets

    def _encoded(self, text: str, parse_special: bool) -> Encoding:
        tokenizer = self._parsing_tokenizer if parse_special else self._tokenizer
        return tokenizer.encode(check_characters(text), add_special_tokens=False)

    @functools.cached_property
    def _control_ids(self) -> np.ndarray:
        return np.array(list(self._special_ids.values()), np.int32)

    @functools.cached_property
    def _parsing_tokenizer(self) -> Tokenizer:
        tokenizer = read_tokenizer(self.path)
        tokenizer.encode_special_tokens = False
        return tokenizer

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes each text, on all cores."""
        checked = [check_characters(text) for text in texts]
        encoded = self._tokenizer.encode_batch_fast(checked, add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in encoded]

    def decode(self, ids: Sequence[int] | np.ndarray, *, keep_special: bool = False) -> str:
        """Returns the text of ids; see `Codec.decode`."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=not keep_special)

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Returns each token's text by itself, spaces and odd bytes made visible."""
        return [visible(self.decode([i], keep_special=True).encode()) for i in ids]

    def content(self) -> bytes:
        """Returns the content of the file, checked against the digest."""
        content = pathlib.Path(self.path).read_bytes()
        dataclasses.replace(self)
        return content


@dataclasses.dataclass(frozen=True)
class SecondTokenizer(TokenizerCodec):
    """A tokenizer.json beside that of the data's own codec, which a run keeps under another name.

    The attributes are those of `TokenizerCodec`.
    """

    KEPT_FILES: ClassVar[dict[str, str]] = {"path": f"second_{NAME_IN_RUN}"}
