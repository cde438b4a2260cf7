"""`jaxgen tokenizer train`: a byte-level BPE from text files."""

from __future__ import annotations

import argparse

from jaxgen.codecs.bpe import train_bpe
from jaxgen.data.text_files import TextFiles


def train(arguments: argparse.Namespace) -> int:
    """Writes a tokenizer.json and prints its digest.

    Args:
      arguments: `text` (patterns), `vocab_size`, `output`.
    """

    def texts():
        for pattern in arguments.text:
            for record in TextFiles(pattern, heldout_fraction=0.0).read("train"):
                yield record["text"]

    codec = train_bpe(texts(), arguments.vocab_size, arguments.output)
    print(f"{arguments.output}: {codec.vocab_size} tokens, digest {codec.digest}")
    return 0
