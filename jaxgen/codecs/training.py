"""Training a tokenizer that gives every text back: BPE or Unigram over bytes."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jaxgen.codecs.special import BEGIN, END, PAD, SpecialTokens
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.errors import DataError

Kind = Literal["bpe", "unigram"]


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    path: str | os.PathLike,
    kind: Kind = "bpe",
    special: SpecialTokens | None = None,
) -> TokenizerCodec:
    """Trains a tokenizer and writes its tokenizer.json, whole or not at all.

    Each digit is a token of its own; runs of spaces and of indentation can be one. All 256 bytes
    are tokens, so that any text comes back exactly.

    Args:
      texts: the sample.
      vocab_size: ids, control tokens included.
      path: the file to write.
      kind: "bpe" (1508.07909), the same file for the same sample; or "unigram" (1804.10959), whose
        training by the library differs a little from run to run.
      special: control tokens beside those for padding, begin and end.

    Raises:
      DataError: if the vocabulary is too small, or the file cannot be written.
    """
    names = [PAD, BEGIN, END, *(() if special is None else special.names)]
    if vocab_size < 256 + len(names):
        raise DataError(
            f"vocab_size={vocab_size} is too small: there are 256 bytes and {len(names)} control "
            "tokens."
        )
    settings = {
        "vocab_size": vocab_size,
        "special_tokens": names,
        "initial_alphabet": pre_tokenizers.ByteLevel.alphabet(),
        "show_progress": False,
    }
    if kind == "bpe":
        tokenizer, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**settings)
    else:
        tokenizer, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(**settings)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainer)
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write the tokenizer {path}: {error.strerror}.") from error
    return TokenizerCodec(str(path))
