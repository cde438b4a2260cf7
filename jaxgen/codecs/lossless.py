"""A check that a tokenizer gives every text back."""

from __future__ import annotations

from jaxgen.codecs.codec import Codec

PROBES = (
    "plain words, and marks.", "  two spaces before and two after  ", "a\tb\r\nc\n\n\n    d",
    "ﬁ ﬂ ½ Ⅷ ａ", "e\u0301 is é", "東京 ١٢٣ हिन्दी", "🙂 👩\u200d👧", "\u200b\u00a0\ufeff",
    "2024-11-21 3.14159", "UPPER lower", "\x00\x07\x7f", "<|end|> </s> <unk>", "",
)  # fmt: skip


def lost(codec: Codec) -> list[str]:
    """Returns the probes that do not come back as they were; none if it is lossless."""
    return [text for text in PROBES if codec.decode(codec.encode(text)) != text]
