"""Small tokenizers of the kinds that public checkpoints have, made on the spot."""

from __future__ import annotations

import io
import json
import pathlib
from collections.abc import Sequence

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = [
    "Question: What is the capital of France?\nAnswer: Paris",
    "The answer: Paris is the capital. 12 + 34 = 46; Berlin, Paris, Rome",
    "user: hello there assistant: general, how are you? Paris!",
] * 20  # fmt: skip
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]


def prefix_space(path: pathlib.Path, begins: bool = True, special: Sequence[str] = SPECIAL) -> str:
    """Writes a tokenizer like Llama 2's: a space before the first word, texts begin with <s>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=[*special, *byte_tokens])
    # Trained on words and punctuation, as SentencePiece trains, and used without.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Punctuation()]
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    written = json.loads(tokenizer.to_str())
    # Bytes are tokens like others, though only special ones can be told to the trainer.
    written["added_tokens"] = written["added_tokens"][: len(special)]
    path.write_text(json.dumps(written))
    return str(path)


def byte_level(path: pathlib.Path) -> str:
    """Writes a tokenizer like GPT-2's: bytes, words with their space, no begin token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(path))
    return str(path)


def sentence_pieces(path: pathlib.Path) -> str:
    """Writes a SentencePiece model with a token for each byte, as Llama 2's and Gemma's have."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=330, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, pad_id=3, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return str(path)
