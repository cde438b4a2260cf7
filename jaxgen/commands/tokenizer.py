"""`jaxgen tokenizer train|show`: trains tokenizers, and shows how any of them splits a text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.lossless import lost
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.codecs.tokenizer import TokenizerCodec, read_tokenizer
from jaxgen.codecs.training import train_tokenizer
from jaxgen.data.features import field
from jaxgen.data.hashing import hash64
from jaxgen.data.text_files import Jsonl, TextFiles
from jaxgen.errors import DataError

HELD_BACK = 20
"""One text in this many is left out of training, to measure bytes per token."""


def train(arguments: argparse.Namespace) -> int:
    """Writes a tokenizer.json and prints its bytes per token on held-out text.

    Args:
      arguments: `text` (patterns), `kind`, `vocab_size`, `output`, `sample` (megabytes), `seed`,
        `sentinels`, `reserved`, `plain`.
    """
    held_back: list[str] = []

    def training() -> Iterator[str]:
        for number, text in enumerate(sample(arguments.text, arguments.sample, arguments.seed)):
            if number % HELD_BACK == HELD_BACK - 1:
                held_back.append(text)
            else:
                yield text

    special = None
    if not arguments.plain:
        special = SpecialTokens(sentinels=arguments.sentinels, reserved=arguments.reserved)
    codec = train_tokenizer(
        training(), arguments.vocab_size, arguments.output, arguments.kind, special
    )
    print(f"{arguments.output}: {codec.vocab_size} tokens, digest {codec.digest}")
    if held_back:
        print(f"{bytes_per_token(codec, held_back):.2f} bytes per token of held-out text")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Prints a description of a tokenizer, and its tokens of a text.

    Args:
      arguments: `file`, a tokenizer.json or a SentencePiece .model; `text` or None.
    """
    codec = open_codec(arguments.file)
    print(f"{arguments.file}: {codec.vocab_size} tokens, digest {codec.digest}")
    changed = lost(codec)
    print("every text comes back" if not changed else f"these texts do not come back: {changed}")
    if arguments.text is not None:
        ids = codec.encode(arguments.text)
        print(f"{len(ids)} tokens, {bytes_per_token(codec, [arguments.text]):.2f} bytes per token")
        print(
            " ".join(
                f"{piece}:{number}" for piece, number in zip(codec.pieces(ids), ids, strict=True)
            )
        )
    return 0


def open_codec(file: str) -> Codec:
    """Returns the codec of a file; the first control token stands in for those without a name.

    Raises:
      DataError: if it is neither kind of file.
    """
    if file.endswith(".model"):
        return SentencePieceCodec(file)
    try:
        codec = TokenizerCodec(file)
        assert codec.pad_id >= 0
        return codec
    except DataError as error:
        if "lacks the control tokens" not in str(error):
            raise
    added = read_tokenizer(file).get_added_tokens_decoder()
    names = [token.content for _, token in sorted(added.items()) if token.special]
    if not names:
        raise DataError(f"{file} has no control token; add one that ends a text.")
    return TokenizerCodec(file, pad=names[0], begin=names[0], end=names[0])


def bytes_per_token(codec: Codec, texts: Sequence[str]) -> float:
    """Returns the mean number of bytes in a token, over the texts together."""
    tokens = sum(len(ids) for ids in codec.encode_batch(texts))
    return sum(len(text.encode()) for text in texts) / max(1, tokens)


def sample(patterns: Sequence[str], megabytes: float, seed: int) -> Iterator[str]:
    """Yields texts of files in an order drawn by the seed, until there is enough."""
    files = []
    for pattern in patterns:
        is_json = ".jsonl" in pattern
        source = (Jsonl if is_json else TextFiles)(pattern, heldout_fraction=0.0)
        files += [(source, file) for file in source.files()]
    size = 0
    for source, file in sorted(files, key=lambda one: hash64(seed, one[1])):
        for record in source.read_file(file):
            text = field(record, "text")
            yield text
            size += len(text.encode())
            if size >= megabytes * 1e6:
                return
