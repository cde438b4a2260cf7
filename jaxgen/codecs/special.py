"""The control tokens that a tokenizer reserves beside those for padding, begin and end."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from jaxgen.errors import ConfigError, DataError

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
MASK = ("<|mask|>",)
INFILLING = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
CHAT = ("<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>")
MODALITIES = tuple(
    name
    for kind in ("image", "audio", "video")
    for name in (f"<|{kind}_begin|>", f"<|{kind}|>", f"<|{kind}_end|>")
)


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Which control tokens there are, in this order.

    Attributes:
      mask: `<|mask|>`, of masked_tokens.
      infilling: `<|fim_prefix|>`, `<|fim_suffix|>`, `<|fim_middle|>`.
      chat: `<|system|>`, `<|user|>`, `<|assistant|>`, `<|end_of_turn|>`.
      modalities: of image, audio and video each a begin, a place and an end.
      sentinels: how many of `<|sentinel_0|>` and on, of span_corruption.
      reserved: how many of `<|reserved_0|>` and on, for what is thought of later.
    """

    mask: bool = True
    infilling: bool = True
    chat: bool = True
    modalities: bool = True
    sentinels: int = 40
    reserved: int = 0

    def __post_init__(self):
        for name in ("sentinels", "reserved"):
            if getattr(self, name) < 0:
                raise ConfigError(f"special_tokens.{name}={getattr(self, name)}: use 0 or more.")

    @property
    def names(self) -> tuple[str, ...]:
        """The tokens' names, in the order of their ids."""
        switched = (
            (self.mask, MASK),
            (self.infilling, INFILLING),
            (self.chat, CHAT),
            (self.modalities, MODALITIES),
        )
        return (
            *(name for is_on, names in switched if is_on for name in names),
            *(f"<|sentinel_{number}|>" for number in range(self.sentinels)),
            *(f"<|reserved_{number}|>" for number in range(self.reserved)),
        )


def find_special(name: str, ids: Mapping[str, int], tokenizer: str) -> int:
    """The id of a control token.

    Raises:
      DataError: naming the token, the tokenizer, and what to do.
    """
    if name in ids:
        return ids[name]
    sentinel = re.fullmatch(r"<\|sentinel_(\d+)\|>", name)
    there = sum(key.startswith("<|sentinel_") for key in ids)
    if sentinel and there:
        cure = f"it has {there} sentinels; give it more, or corrupt fewer spans in a chunk"
    else:
        cure = (
            "give it its control tokens (byte_codec.special = @special_tokens(), or `jaxgen "
            "tokenizer train`), or name the token of this tokenizer that is meant"
        )
    raise DataError(f"{tokenizer} has no control token {name!r}: {cure}.")
