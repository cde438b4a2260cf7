"""Gin text to bindings. The only file that touches gin, and only its parser.

gin's own registry, scopes and bindings are global; they stay empty. An included file counts once,
where it is first included, so that two files may share a base without undoing each other.
"""

from __future__ import annotations

import itertools
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from jaxgen.configuration.bindings import (
    MACRO,
    REQUIRED,
    Binding,
    Import,
    Lines,
    Reference,
    macro_reference,
)
from jaxgen.configuration.files import find_gin_file, read_gin_file, shown
from jaxgen.errors import ConfigError


def read_files(gin_files: Sequence[str], bindings: Sequence[str] = (), after: int = 0) -> Lines:
    """Reads the lines of the files with all that they include, then the bindings, in order.

    Args:
      gin_files: names of files.
      bindings: lines of the command line.
      after: lines that were read before.

    Raises:
      ConfigError: for a missing file, a circle of includes or a syntax error.
    """
    count, seen = itertools.count(after), set[Path]()
    lines = [
        line for name in gin_files for line in _read_file(find_gin_file(name), seen, (), count)
    ]
    return _sorted([*lines, *(_read_binding(text, count) for text in bindings)])


def read_text(text: str, bindings: Sequence[str] = (), source: str = "text") -> Lines:
    """Reads the lines of a text in no file; its includes are found from the current folder.

    Raises:
      ConfigError: as `read_files`.
    """
    count = itertools.count()
    lines = list(_read_statements(text, source, None, set(), (), count))
    return _sorted([*lines, *(_read_binding(binding, count) for binding in bindings)])


def _sorted(lines: Sequence[Binding | Import]) -> Lines:
    imports = [line for line in lines if isinstance(line, Import)]
    return Lines([line for line in lines if isinstance(line, Binding)], imports)


def _read_file(
    path: Path, seen: set[Path], chain: tuple[Path, ...], count: Iterator[int]
) -> Iterator[Binding | Import]:
    resolved = path.resolve()
    if resolved in chain:
        circle = " > ".join(shown(step) for step in (*chain, resolved))
        raise ConfigError(f"gin files include each other in a circle: {circle}")
    if resolved not in seen:
        seen.add(resolved)
        yield from _read_statements(
            read_gin_file(path), shown(path), path, seen, (*chain, resolved), count
        )


def _read_statements(
    text: str,
    source: str,
    path: Path | None,
    seen: set[Path],
    chain: tuple[Path, ...],
    count: Iterator[int],
) -> Iterator[Binding | Import]:
    gin = _gin_parser()
    for statement in _parse(text, lambda line: f"{source}:{line}"):
        location = f"{source}:{statement.location.line_num}"
        match statement:
            case gin.BindingStatement():
                yield _binding(statement, location, next(count))
            case gin.IncludeStatement():
                included = find_gin_file(statement.filename, path, location)
                yield from _read_file(included, seen, chain, count)
            case gin.ImportStatement():
                if statement.format() != f"import {statement.module}":
                    raise ConfigError(
                        f"{location}: `{statement.format()}`: gin files are data here and import "
                        "nothing; write `import MODULE` to say whose parts are used"
                    )
                yield Import(statement.module, location)


def _read_binding(text: str, count: Iterator[int]) -> Binding:
    """Reads a binding of the command line; a value that is no gin value is the string itself."""
    location = f"binding `{text}`"
    name, equals, value = text.partition("=")
    value = value.strip()
    if not equals or not value:
        raise ConfigError(f"{location} has no value; write NAME=VALUE, or NAME=\"''\" for no text")
    # What begins as gin syntax is meant as gin: a slip in it must not become a string.
    begins_as_gin = value[0] in "@%([{'\""
    for candidate in [value] if begins_as_gin else [value, repr(value)]:
        try:
            statements = list(_parse(f"{name} = {candidate}\n", lambda _: location))
        except ConfigError:
            if begins_as_gin or candidate != value:
                raise
        else:
            if len(statements) == 1 and hasattr(statements[0], "value"):
                return _binding(statements[0], location, next(count))
    raise ConfigError(f"{location} is not one binding; write NAME=VALUE")


def _binding(statement: Any, location: str, order: int) -> Binding:
    scope = tuple(statement.scope.split("/")) if statement.scope else ()
    if not statement.arg_name:
        return Binding(
            (*scope, statement.selector), MACRO, "value", statement.value, location, order
        )
    return Binding(scope, statement.selector, statement.arg_name, statement.value, location, order)


class _Delegate:
    """Gives gin's parser our own values for `@reference()` and `%MACRO`."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> Reference:
        *scope, name = scoped_name.split("/")
        return Reference(tuple(scope), name, evaluate)

    def macro(self, name: str) -> Any:
        return REQUIRED if name in ("gin.REQUIRED", "REQUIRED") else macro_reference(name)


def _parse(text: str, location: Callable[[int], str]) -> Iterator[Any]:
    """Returns the statements of gin's parser, with every way it fails turned into a ConfigError."""
    line, text = 1, text if text.endswith("\n") else text + "\n"
    try:
        if "\x00" in text:  # Python 3.13's tokenizer fails on it with a SystemError
            raise SyntaxError("a NUL character; is this a text file?")
        _refuse_negated_references(text)
        parser = _gin_parser().ConfigParser(text, _Delegate())
        while True:
            line = parser.current_token.start[0]
            statement = parser.parse_statement()
            if statement is None:
                return
            yield statement
    except SyntaxError as error:
        place = location(error.lineno or line)
        raise ConfigError(f"{place}: syntax error: {_explained(error)}") from error
    except tokenize.TokenError as error:
        message, (line, _) = error.args
        raise ConfigError(f"{location(line)}: syntax error: {message}") from error
    except StopIteration as error:
        raise ConfigError(f"{location(line)}: syntax error: unexpected end") from error
    except (TypeError, ValueError) as error:  # such as a list as the key of a dict
        raise ConfigError(f"{location(line)}: this cannot be: {error}") from error


def _explained(error: SyntaxError) -> str:
    """Returns gin's message and its line; for a bare word, what to write instead."""
    if bare := re.search(r"Failed to parse token '(\w+)'", error.msg):
        word = bare[1]
        constant = word.capitalize() in ("True", "False", "None")
        message = f"write {word.capitalize()}" if constant else f"text needs quotes: '{word}'"
    else:
        message = error.msg.splitlines()[0].rstrip(".")
    line = " ".join((error.text or "").split())
    return f"{message} in `{line}`" if line else message


def _refuse_negated_references(text: str) -> None:
    """Raises for `-%X`, of which gin drops the minus silently."""
    tokens = tokenize.generate_tokens(StringIO(text).readline)
    for sign, following in itertools.pairwise(tokens):
        if sign.string == "-" and following.string in ("%", "@"):
            where = ("", sign.start[0], sign.start[1], sign.line)
            raise SyntaxError("gin cannot negate a macro or a reference; write the number", where)


def _gin_parser() -> Any:
    try:
        from gin import config_parser
    except ImportError:
        # Without the package, `import gin` still finds this repository's folder of gin files.
        raise ConfigError(
            "the package gin-config, which reads configurations, is not installed: "
            "pip install gin-config"
        ) from None
    return config_parser
