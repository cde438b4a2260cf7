"""Parameters are chosen by patterns of their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping

from jaxgen.errors import ConfigError


def matching(
    setting: str,
    patterns: Iterable[str],
    described: Mapping[str, tuple[str, ...]],
    kind: str = "parameter",
) -> list[str]:
    """Returns the names of which a description matches a pattern, in their order.

    Args:
      setting: the configuration's, such as "train.freeze".
      patterns: such as "embedding*"; `*` stands for anything, dots included.
      described: what a pattern may match of each name.
      kind: what they are the names of.

    Raises:
      ConfigError: a pattern matches nothing.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        if not any(_matches(one, (pattern,)) for one in described.values()):
            some = ", ".join(list(described)[:3])
            raise ConfigError(
                f"{setting} has {pattern!r}, which matches no {kind} of the model; their names are "
                f"those of `jaxgen models show`, such as {some}, and `*` stands for anything."
            )
    return [name for name, one in described.items() if _matches(one, patterns)]


def _matches(description: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(one, pattern) for one in description for pattern in patterns)
