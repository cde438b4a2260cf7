"""Tokenizers as CLIP has them, of letters and a few words."""

from __future__ import annotations

import importlib
import json
import pathlib
from typing import Any


def clip_tokenizer(folder: pathlib.Path, length: int, pad: str) -> Any:
    """Returns a tokenizer of transformers that pads with a token; its files are in the folder."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [","]
    merges = [("r", "e"), ("re", "d</w>"), ("a", "n"), ("an", "d</w>"), ("s", "q")]
    words = [*letters, *(f"{one}</w>" for one in letters), *(a + b for a, b in merges)]
    words += ["!", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(words)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    kind = importlib.import_module("transformers").CLIPTokenizer
    return kind.from_pretrained(folder, model_max_length=length, pad_token=pad)
