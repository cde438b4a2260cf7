"""T5X's style of flags: `--gin_file=a.gin` and `--gin.train.steps=200`; and `--import=my_parts`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxgen.errors import ConfigError

_FILE, _IMPORT, _BINDING = "--gin_file", "--import", "--gin."


@dataclasses.dataclass(frozen=True)
class Flags:
    """A command line, split.

    Attributes:
      gin_files: names of files, in order.
      bindings: lines such as `train.steps=200`, in order.
      imports: modules and Python files whose parts configurations may use.
      rest: all other arguments.
    """

    gin_files: list[str] = dataclasses.field(default_factory=list)
    bindings: list[str] = dataclasses.field(default_factory=list)
    imports: list[str] = dataclasses.field(default_factory=list)
    rest: list[str] = dataclasses.field(default_factory=list)


def parse_flags(argv: Sequence[str]) -> Flags:
    """Splits a command line into the flags that all configured commands take, and the rest.

    Each may be repeated, and its value may stand after `=` or as the next argument. What follows a
    bare `--` is left alone.

    Raises:
      ConfigError: for a flag without its value.
    """
    flags = Flags()
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            flags.rest.extend([argument, *arguments])
        elif flag in (_FILE, _IMPORT):
            value = value if equals else _value_of(flag, next(arguments, None))
            (flags.gin_files if flag == _FILE else flags.imports).append(value)
        elif argument.startswith(_BINDING):
            name = flag.removeprefix(_BINDING)
            if not equals:
                value = _value_of(flag, next(arguments, None))
            flags.bindings.append(f"{name}={value}")
        else:
            flags.rest.append(argument)
    return flags


def _value_of(flag: str, following: str | None) -> str:
    if following is None or following.startswith("--"):
        raise ConfigError(f"{flag} has no value; write {flag}=VALUE")
    return following
