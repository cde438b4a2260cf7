"""The `jaxgen` command. Each subcommand's work is in `jaxgen/commands/`, loaded when it is used."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jaxgen
from jaxgen.distributed import is_main, is_shared, leave
from jaxgen.errors import ConfigError, JaxgenError, JaxgenWarning
from jaxgen.parsing import data, launch, runs, studies
from jaxgen.parsing.arguments import GIN_HELP, ArgumentParser

CONFIGURED = (
    "train",
    "extend",
    "plan",
    "diagnose",
    "evaluate",
    "interchange",
    "config",
    "prepare",
    "tasks",
    "data",
)
"""The modules of commands that read a configuration."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; prints a JaxgenError as one message. Returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
        try:
            return _run(arguments)
        except JaxgenError as error:
            shared = is_shared(error)
            if is_main() or not shared:
                print(f"error: {error}", file=sys.stderr)
            return 1 if shared else leave(1)
        except BrokenPipeError:
            return leave(1)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return leave(130)


def _show_warning(usual: Callable[..., None], message: Warning, *details: Any) -> None:
    if isinstance(message, JaxgenWarning):
        print(f"note: {message}", file=sys.stderr)
    else:
        usual(message, *details)


def _run(arguments: list[str]) -> int:
    from jaxgen.configuration import imported, parse_flags

    flags = parse_flags(arguments)
    parser = _parser()
    parsed = parser.parse_args(flags.rest)
    parsed.gin_files, parsed.bindings, parsed.parser = flags.gin_files, flags.bindings, parser
    module, function = parsed.function
    if (flags.gin_files or flags.bindings) and module not in CONFIGURED:
        raise ConfigError(
            f"`jaxgen {flags.rest[0]}` takes no configuration flags (--gin_file, --gin.)."
        )
    with imported(flags.imports):
        return getattr(importlib.import_module(f"jaxgen.commands.{module}"), function)(parsed)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="jaxgen",
        description="Trains, evaluates and studies generative transformers.",
        epilog=GIN_HELP,
    )
    parser.add_argument("--version", action="version", version=f"jaxgen {jaxgen.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (runs, launch, studies, data):
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
