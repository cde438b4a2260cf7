"""Fill-in-the-middle (Bavarian et al., 2207.14255): documents whose middle comes last."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxgen.data.draws import Draws
from jaxgen.data.parts import PARTS, Part
from jaxgen.data.preprocessors import need, seed_of
from jaxgen.data.protocols import Context, Record
from jaxgen.domains import Seed, UnitFraction, check_domains


@dataclasses.dataclass(frozen=True)
class FillInTheMiddle:
    """Cuts some documents at two characters; the end token follows the middle.

    Prefix-suffix-middle is `<prefix> prefix <suffix> suffix <middle> middle`; suffix-prefix-middle,
    in the paper's second form (appendix D), `<prefix> <suffix> suffix <middle> prefix middle`.
    The documents that are cut, and where, are drawn anew in each epoch.

    Attributes:
      rate: share of the documents that is cut.
      spm_rate: share of these in suffix-prefix-middle order.
      field: the field that holds the text.
      prefix: the control token's name in the tokenizer.
      suffix: likewise.
      middle: likewise.
      seed: the seed of the draws.
    """

    rate: UnitFraction = 0.5
    spm_rate: UnitFraction = 0.5
    field: str = "text"
    prefix: str = "<|fim_prefix|>"
    suffix: str = "<|fim_suffix|>"
    middle: str = "<|fim_middle|>"
    seed: Seed = 0

    draws = True

    def __post_init__(self):
        check_domains(self, "fill_in_the_middle")

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records, with parts in those that are cut."""
        for record in records:
            text = str(need(record, self.field, "fill_in_the_middle.field"))
            draws = Draws(seed_of(record, "fill_in_the_middle", self.seed, epoch=context.epoch))
            is_cut, is_spm = draws.uniform(2) < (self.rate, self.spm_rate)
            first, second = sorted(draws.integers(2, len(text) + 1).tolist())
            if not is_cut:
                yield record
            else:
                cut = text[:first], text[first:second], text[second:]
                yield record | {PARTS: self.spm(*cut) if is_spm else self.psm(*cut)}

    def psm(self, prefix: str, middle: str, suffix: str) -> list[Part]:
        """Returns the parts in the order prefix, suffix, middle."""
        return [
            control(self.prefix), Part(prefix), control(self.suffix), Part(suffix),
            control(self.middle), Part(middle),
        ]  # fmt: skip

    def spm(self, prefix: str, middle: str, suffix: str) -> list[Part]:
        """Returns the parts in the order suffix, prefix, middle, which is encoded by itself."""
        return [
            control(self.prefix), control(self.suffix), Part(suffix), control(self.middle),
            Part(prefix), Part(middle, is_apart=True),
        ]  # fmt: skip


def control(name: str) -> Part:
    """Returns a control token as a part."""
    return Part(name, is_control=True)
