"""The `jaxgen` command. Each subcommand's work is in `jaxgen/commands/`, loaded when it is used."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jaxgen
from jaxgen.errors import ConfigError, JaxgenError, JaxgenWarning, is_out_of_memory
from jaxgen.files import check_local
from jaxgen.parsing import assistants, data, launch, models, runs, studies
from jaxgen.parsing.arguments import GIN_HELP, ArgumentParser

CONFIGURED = (
    "train",
    "extend",
    "plan",
    "diagnose",
    "evaluate",
    "interchange",
    "palette",
    "config",
    "prepare",
    "principles",
    "reference",
    "rollouts",
    "tasks",
    "data",
)
"""The modules of commands that read a configuration."""
WRITTEN = ("output", "slim", "json", "plot", "figures", "csv", "logs", "study")
"""Flags with a path that a command writes, or the folder of a study."""
DISTRIBUTED = "jaxgen.distributed"
"""It loads JAX, which takes a second: only a command that has loaded it has other processes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; prints a JaxgenError as one message. Returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
        try:
            return _run(arguments)
        except JaxgenError as error:
            return _end_after(error)
        except BrokenPipeError:
            return _leave(1)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return _leave(130)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return _end_after(JaxgenError(_out_of_memory(error)))


def _out_of_memory(error: Exception) -> str:
    said = str(error).strip().split("\n")[0]
    return (
        f"there is not enough memory{': ' * bool(said)}{said}. Take a smaller model or smaller "
        "batches, or end what else is in memory."
    )


def _end_after(error: JaxgenError) -> int:
    """Prints an error, once if all processes have it; returns the status."""
    others = sys.modules.get(DISTRIBUTED)
    if others is None or others.is_main() or not others.is_shared(error):
        print(f"error: {error}", file=sys.stderr)
    return _leave(error.exit_status, error)


def _leave(status: int, error: JaxgenError | None = None) -> int:
    """Ends this process before others wait for it, if there are any; returns the status."""
    others = sys.modules.get(DISTRIBUTED)
    return status if others is None else others.leave(status, error)


def _show_warning(usual: Callable[..., None], message: Warning, *details: Any) -> None:
    if isinstance(message, JaxgenWarning):
        with contextlib.suppress(OSError):  # A full disk is no reason to end what goes on.
            print(f"note: {message}", file=sys.stderr)
    else:
        usual(message, *details)


def _run(arguments: list[str]) -> int:
    from jaxgen.configuration import imported, parse_flags

    flags = parse_flags(arguments)
    parser = _parser()
    parsed = parser.parse_args(flags.rest)
    parsed.gin_files, parsed.bindings, parsed.parser = flags.gin_files, flags.bindings, parser
    for name in WRITTEN:
        if isinstance(path := getattr(parsed, name, None), str):
            check_local(f"--{name}", path)
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
    for group in (runs, models, launch, studies, assistants, data):
        group.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
