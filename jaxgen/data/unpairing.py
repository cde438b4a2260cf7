"""Pairs as completions by themselves: the better is good, the worse is bad."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxgen.data.comparison_fields import ComparisonLayout, PreferencePairs
from jaxgen.data.preprocessors import record_key
from jaxgen.data.protocols import Context, Record


@dataclasses.dataclass(frozen=True)
class Unpair:
    """The preprocessor that makes two labelled completions of each pair, as KTO reads them.

    They have `prompt`, `completion` and `label`, the probability that theirs is the better; see
    `labelled_completions`.

    Attributes:
      pairs: the fields that hold the pair.
    """

    pairs: ComparisonLayout = PreferencePairs()

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the completions, the better first; raises DataError if a record is no pair."""
        del context
        for record in records:
            found = self.pairs.compared(record)
            first = 1.0 if found.preference is None else found.preference
            for completion, label in zip(found.completions, (first, 1 - first), strict=True):
                key = f"{record_key(record)}:{label}"
                named = {"prompt": found.prompt, "completion": completion}
                yield named | {"label": label, "key": key}
