"""The nearest known names to a mistyped one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns at most `count` names like `word`, or that have it as a part, best first.

    Case does not matter.
    """
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    folded = word.casefold()
    matches = difflib.get_close_matches(folded, by_folded, n=count, cutoff=0.6)
    whole = re.compile(rf"(?:^|[_./]){re.escape(folded)}(?:$|[_./])")
    matches += [name for name in by_folded if whole.search(name) and name not in matches]
    return [by_folded[match] for match in matches[:count]]


def did_you_mean(names: Iterable[str]) -> str:
    """Returns `; did you mean `a` or `b`?`, or nothing where there is nothing to suggest."""
    quoted = [f"`{name}`" for name in names]
    return f"; did you mean {' or '.join(quoted)}?" if quoted else ""


def one_of(names: Iterable[str]) -> str:
    """Returns the names in quotes, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)
