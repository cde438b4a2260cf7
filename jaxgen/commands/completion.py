"""`jaxgen completion bash|zsh|fish`: completes commands, flags and their values on TAB.

The script of a shell is a few lines that ask `jaxgen completion words` for the words that may
follow, so all three are alike. Names of bindings take seconds to collect: the script has them.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxgen.configuration import registered
from jaxgen.configuration.files import library_folders
from jaxgen.configuration.table import parameters

NAMES = "_JAXGEN_BINDINGS"
"""The environment variable that scripts pass the names of bindings in."""

CONFIGURATION_FLAGS = ("--gin_file=", "--gin.", "--import=")
# The kind of an argument's value, by its name; others that take text may be a file.
KINDS = {
    "run_dir": "run",
    "study": "folder",
    "output": "file",
    "path": "gin",
    "first": "gin",
    "second": "gin",
    "files": "gin",
    "mixture": "gin",
    "check": "folder",
    "figures": "folder",
    "source": "folder",
}

SCRIPTS = {
    "bash": """\
# Save it as ~/.local/share/bash-completion/completions/jaxgen, or source it in ~/.bashrc.
_jaxgen() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\\n' word
    COMPREPLY=($({variable}='{names}' jaxgen completion words -- "$line" 2>/dev/null))
    word=${line##*[[:space:]]}
    # Bash replaces only what follows the last "=" of a word.
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[=/.] ]]; then compopt -o nospace; fi
} 2>/dev/null
complete -F _jaxgen jaxgen
""",
    "zsh": """\
# Source it in ~/.zshrc, after compinit.
_jaxgen() {
    local -a found
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    found=("${(@f)$({variable}='{names}' jaxgen completion words -- "$line" 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*[=/.]}
    compadd -Q -- ${found:#*[=/.]}
}
compdef _jaxgen jaxgen
""",
    "fish": """\
# Save it as ~/.config/fish/completions/jaxgen.fish.
function __jaxgen_words
    set -l line (commandline -cp | string collect)
    env {variable}='{names}' jaxgen completion words -- $line 2>/dev/null
end
complete -c jaxgen -f -a '(__jaxgen_words)'
""",
}


def script(arguments: argparse.Namespace) -> int:
    """Prints the script of a shell.

    Args:
      arguments: `shell`.
    """
    text = SCRIPTS[arguments.shell].replace("{variable}", NAMES)
    print(text.replace("{names}", " ".join(binding_names())), end="")
    return 0


def words(arguments: argparse.Namespace) -> int:
    """Prints the words that may end a command line, one per line.

    Args:
      arguments: `line`, up to the cursor; `parser`, that of the whole command line.
    """
    names = os.environ.get(NAMES, "").split()
    for word in completions(arguments.parser, arguments.line, names):
        print(word)
    return 0


def binding_names() -> list[str]:
    """Returns every name that `--gin.` can bind, such as `train.steps`."""
    return [f"{name}.{field}" for name, part in registered().items() for field in parameters(part)]


def completions(parser: argparse.ArgumentParser, line: str, names: Iterable[str]) -> list[str]:
    """Returns the whole words that the last word of a line may become.

    Args:
      parser: that of the whole command line.
      line: from the command's name up to the cursor.
      names: the names that `--gin.` can bind.
    """
    *before, last = _split(line)
    command, positionals, flag = _position(parser, before[1:])
    found: Iterable[str]
    if flag is not None:
        found = _values(flag, last)
    elif last.startswith("-") and "=" in last:
        option, _, value = last.partition("=")
        action = next((a for a in command._actions if option in a.option_strings), None)
        values = _gin_files(value) if option == "--gin_file" else ()
        values = _files(value, ".py") if option == "--import" else values
        values = _values(action, value) if action is not None else values
        found = (f"{option}={value}" for value in values)
    elif last.startswith("--gin."):
        found = (f"--gin.{name}=" for name in names)
    elif last.startswith("-"):
        options = (
            f"{option}=" if action.nargs is None else option
            for action in command._actions
            if action.help != argparse.SUPPRESS
            for option in action.option_strings
        )
        found = [*options, *(CONFIGURATION_FLAGS if command is not parser else ())]
    else:
        rest = [action for action in command._actions if not action.option_strings]
        repeated = rest[-1:] if rest and rest[-1].nargs == "+" else []
        action = [*rest[positionals:], *repeated][:1]
        found = _values(action[0], last) if action else ()
    return sorted({word for word in found if word.startswith(last)})


def _split(line: str) -> list[str]:
    try:
        found = shlex.split(line)
    except ValueError:  # an open quote
        found = line.split()
    return [*found, ""] if line[-1:].isspace() or not found else found


def _position(
    parser: argparse.ArgumentParser, before: list[str]
) -> tuple[argparse.ArgumentParser, int, argparse.Action | None]:
    """Returns the subcommand of words, its positional words, and the flag that awaits a value."""
    positionals, awaiting = 0, None
    for word in before:
        options = {name: a for a in parser._actions for name in a.option_strings}
        if awaiting is not None:
            awaiting = None
        elif word in ("--gin_file", "--import"):
            awaiting = argparse.Action([word], word.strip("-"))
        elif word.startswith("-"):
            awaiting = options[word] if word in options and options[word].nargs is None else None
        elif word in (commands := _subcommands(parser)):
            parser, positionals = commands[word], 0
        else:
            positionals += 1
    return parser, positionals, awaiting


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(next(found, {}))


def _values(action: argparse.Action, value: str) -> Iterator[str]:
    """Yields the values that an argument may have, from its beginning."""
    kind = KINDS.get(action.dest, "file")
    if action.choices is not None:
        hidden = {one.dest for one in getattr(action, "_choices_actions", ())}
        yield from (name for name in map(str, action.choices) if not hidden or name in hidden)
    elif action.dest == "import":
        yield from _files(value, ".py")
    elif action.dest == "gin_file" or kind == "gin":
        yield from _gin_files(value)
    elif action.metavar == "MODEL":
        found = _library("models/*/*.gin", "models")
        yield from (name for name in found if not name.endswith("/family"))
    elif action.metavar == "TASK":
        yield from _library("tasks/*.gin", "tasks")
    elif action.type is None and kind == "run":
        yield from _folders(value, runs_only=True)
    elif action.type is None:
        yield from _folders(value) if kind == "folder" else _files(value)


def _gin_files(value: str) -> Iterator[str]:
    yield from _files(value, ".gin")
    yield from (f"{name}.gin" for name in _library("**/*.gin"))


def _library(pattern: str, inside: str = "") -> Iterator[str]:
    """Yields the gin files that come with jaxgen, without their ending."""
    for folder in library_folders():
        for file in folder.glob(pattern):
            yield file.relative_to(folder / inside).with_suffix("").as_posix()


def _files(value: str, suffix: str = "") -> Iterator[str]:
    for path, name in _entries(value):
        if path.is_dir():
            yield f"{name}/"
        elif name.endswith(suffix):
            yield name


def _folders(value: str, runs_only: bool = False) -> Iterator[str]:
    """Yields folders; with `runs_only` run directories, and folders that may contain some."""
    for path, name in _entries(value):
        if path.is_dir():
            is_run = (path / "config.gin").is_file()
            if not runs_only or is_run or not (path.parent / "config.gin").is_file():
                yield name if runs_only and is_run else f"{name}/"


def _entries(value: str) -> Iterator[tuple[Path, str]]:
    head, slash, tail = value.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") or tail.startswith("."):
                yield path, f"{head}{slash}{path.name}"
