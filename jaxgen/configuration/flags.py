"""T5X's habit of flags: `--gin_file=a.gin` and `--gin.train.steps=200`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxgen.errors import ConfigError

_FILE, _BINDING = "--gin_file", "--gin."


def parse_flags(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Splits a command line into gin files, bindings such as `train.steps=200`, and the rest.

    Both flags may be repeated, and their value may stand after `=` or as the next argument. What
    follows a bare `--` is left alone.

    Raises:
      ConfigError: for a flag without its value.
    """
    gin_files: list[str] = []
    bindings: list[str] = []
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *arguments]
        elif flag == _FILE:
            gin_files.append(value if equals else _value_of(flag, next(arguments, None)))
        elif argument.startswith(_BINDING):
            name = flag.removeprefix(_BINDING)
            if not equals:
                value = _value_of(flag, next(arguments, None))
            bindings.append(f"{name}={value}")
        else:
            rest.append(argument)
    return gin_files, bindings, rest


def _value_of(flag: str, following: str | None) -> str:
    if following is None or following.startswith("--"):
        raise ConfigError(f"{flag} has no value; write {flag}=VALUE")
    return following
