"""A parser of arguments whose complaints name the nearest flag or command."""

from __future__ import annotations

import argparse
import re
from typing import Annotated, NoReturn

from jaxgen.domains import (
    MOST_PROCESSES,
    Domain,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    number,
)

COUNT, WHOLE, AMOUNT = number(PositiveInt), number(NonNegativeInt), number(PositiveFloat)
SEED, PROCESSES = number(Seed), number(Annotated[int, Domain(1, MOST_PROCESSES)])
SAMPLES, TOKENS = (number(Annotated[int, Domain(1, most)]) for most in (2**16, 2**24))


def utf8(text: str) -> str:
    """Returns a text as it is; a terminal may hand over bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} has bytes that are not UTF-8; give it as UTF-8"
        ) from error
    return text


def shape(text: str) -> tuple[int, ...]:
    """Returns the numbers of a text such as 4x4 or 2x4x4."""
    return tuple(int(COUNT(part)) for part in text.split("x"))


GIN_HELP = """\
configuration flags of train, plan, diagnose, evaluate, import, config, prepare, palette, tasks
and data:
  --gin_file=FILE        a gin file; repeatable, later files override earlier ones
  --gin.NAME=VALUE       a binding, such as --gin.train.steps=200 or --gin.TEXT=my/folder;
                         `jaxgen config fields` lists what can be bound
  --import=FILE.py       a file with parts of your own, or a module; repeatable, for any command
"""


class ArgumentParser(argparse.ArgumentParser):
    """Parses as its base does, without abbreviations, and suggests what may have been meant."""

    def __init__(self, *arguments, **options):
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **options)
        self._given: list[str] = []

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parses as its base does, and remembers what it was given."""
        self._given = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the usage, the message and suggestions, and exits with status 2."""
        from jaxgen.configuration.suggesting import did_you_mean, nearest

        kind, _, named = message.partition(": ")
        if kind in ("unrecognized arguments", "the following arguments are required"):
            words = named.split() if kind == "unrecognized arguments" else self._given
            flags = [word for word in words if word.startswith("--") and len(word) > 2]
            known = self._flags()
            unknown = [flag for flag in flags if flag.partition("=")[0] not in known]
            message += did_you_mean([one for flag in unknown for one in self._meant(flag)])
        elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            known = [word.strip("' ") for word in choice[2].split(",")]
            message += did_you_mean(nearest(choice[1], known))
        super().error(message)

    def _meant(self, flag: str) -> list[str]:
        """Returns flags of this command like one that it does not have."""
        from jaxgen.configuration.suggesting import nearest

        name, equals, value = flag.partition("=")
        if re.match(r"--[a-z_]+(\.[a-z_]+)+$", name):
            return [f"--gin.{name[2:]}{equals}{value}"]
        known = {*self._flags(), "--gin_file", "--import"}
        written = "--" + name[2:].replace("-", "_")
        return [near + equals + value for near in nearest(written, known, 1)]

    def _flags(self) -> set[str]:
        """Returns the flags of this command, and of those below it that were given."""
        flags = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, parser in action.choices.items():
                    if name in self._given and isinstance(parser, ArgumentParser):
                        flags |= parser._flags()
        return flags
