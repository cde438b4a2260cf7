"""The control tokens that a tokenizer reserves beside those for padding, begin and end."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from jaxgen.domains import NonNegativeInt, check_domains
from jaxgen.errors import DataError

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
    """The control tokens of a codec, in this order.

    Attributes:
      mask: whether there is `<|mask|>`, for masked_tokens.
      infilling: whether there are `<|fim_prefix|>`, `<|fim_suffix|>`, `<|fim_middle|>`.
      chat: whether there are `<|system|>`, `<|user|>`, `<|assistant|>`, `<|end_of_turn|>`.
      modalities: whether image, audio and video each have a begin, a placeholder and an end token.
      sentinels: number of sentinels, `<|sentinel_0|>` and so on, for span_corruption.
      text_pads: number of `<|text_pad_0|>` and so on, for prompt_answer.padded_prompt.
      reserved: number of reserved tokens, `<|reserved_0|>` and so on, for later uses.
    """

    mask: bool = True
    infilling: bool = True
    chat: bool = True
    modalities: bool = True
    sentinels: NonNegativeInt = 40
    reserved: NonNegativeInt = 0
    text_pads: NonNegativeInt = 0

    def __post_init__(self):
        check_domains(self, "special_tokens")

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the tokens' names, in the order of their ids."""
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
            *(f"<|text_pad_{number}|>" for number in range(self.text_pads)),
        )


def find_special(name: str, ids: Mapping[str, int], tokenizer: str) -> int:
    """Returns the id of a control token.

    Raises:
      DataError: naming the token, the tokenizer, and the fix.
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
            "tokenizer train`), or name another token that this tokenizer has"
        )
    raise DataError(f"{tokenizer} has no control token {name!r}: {cure}.")
