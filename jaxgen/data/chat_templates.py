"""Jinja templates of strangers, filled in without running their code and within bounds.

Jinja's sandbox keeps a template from Python's objects and from changing what it is given. What it
does not bound is counted here: loops and calls, and the length of every text that one makes.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from jaxgen.errors import ConfigError
from jaxgen.json_values import read_json

MOST_STEPS = 100_000
"""Turns of loops, and calls, of a template that is filled in once."""
MOST_LENGTH = 2**20
"""Characters of a text, entries of a list or bits of a number that a template makes."""
MOST_INDENT = 16
TEXT_METHODS = frozenset((
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha",
    "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join",
    "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
    "title", "upper",
))  # fmt: skip
REMOVED = ("batch", "center", "format", "pprint", "random", "slice", "sum", "wordwrap", "xmlattr")
"""Filters that make more than they are given, or something else each time."""
_WIDTH = re.compile(r"%[^a-zA-Z%]*[0-9*]")
_steps = threading.local()


class TemplateRefusal(Exception):
    """What a template raises by `raise_exception`, or for going beyond the bounds."""


class GenerationTag(Extension):
    """The tag by which some templates mark the assistant's text; it writes nothing."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def fill(template: jinja2.Template, **names: Any) -> str:
    """Returns the text of a template; raises whatever its code does, TemplateRefusal too."""
    _steps.left, pieces, length = MOST_STEPS, [], 0
    for piece in template.generate(**names):
        pieces.append(piece)
        length += len(piece)
        _check(length)
    return "".join(pieces)


@functools.lru_cache(maxsize=16)
def compiled(template: str) -> jinja2.Template:
    """Returns a template; raises ConfigError if it is none."""
    try:
        return _Environment().from_string(template)
    except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError, MemoryError) as error:
        raise ConfigError(f"chat.template is not a Jinja template: {error}.") from error


def read_template(template: str) -> str:
    """Returns a template, or that of a tokenizer_config.json or .jinja file if it names one.

    Raises:
      ConfigError: if the file cannot be read, or has none.
    """
    if not template.endswith((".json", ".jinja")):
        return template
    path, fix = Path(template), "name a .jinja file, or a JSON file with a chat_template"
    try:
        if template.endswith(".jinja"):
            return path.read_text(encoding="utf-8")
        shape = (str, [{"name": str, "template": str}])
        found = read_json(path, {"chat_template": shape}, fix, ConfigError)["chat_template"]
    except OSError as error:
        raise ConfigError(f"chat.template: {template} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"chat.template: {template} is not UTF-8 text: {error}.") from error
    if isinstance(found, str):
        return found
    named = {one["name"]: one["template"] for one in found}
    if "default" not in named:
        raise ConfigError(f"chat.template: of {template}'s none is named default; {fix}.")
    return named["default"]


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, finalize=_shown,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
        )  # fmt: skip
        # No strftime_now: templates that ask for it have a fixed date for where there is none, and
        # what a model sees must not depend on the day.
        self.globals["raise_exception"] = _raise
        del self.globals["lipsum"]
        for name in REMOVED:
            del self.filters[name]
        bounded = {"indent": _indent, "join": _join, "replace": _replace}
        for name, check in bounded.items():
            self.filters[name] = _checked(self.filters[name], check)
        self.filters |= {"tojson": _tojson, _COUNTED: _counted, _JOINED: _joined}

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        return super()._generate(_Counting(self).visit(source), *arguments, **named)

    def wrap_str_format(self, value: Any) -> None:
        """Returns no `str.format`, which is not among TEXT_METHODS."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr not in TEXT_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Any, __obj: Any, *arguments: Any, **named: Any) -> Any:
        _spend()
        text, method = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(text, str) and method == "replace":
            _replace(text, *arguments)
        elif isinstance(text, str) and method == "join":
            arguments = (list(*arguments),)
            _join(arguments[0], text)
        return super().call(__context, __obj, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%":
            if isinstance(left, str) and _WIDTH.search(left):
                raise TemplateRefusal("it formats to a width")
            _measure(right)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check(len(left) + len(right))
        elif operator == "*":
            _check(_size(left) * right if isinstance(right, int) and _is_long(left) else 0)
            _check(_size(right) * left if isinstance(left, int) and _is_long(right) else 0)
            _check(_size(left) + _size(right))
        elif operator == "**" and isinstance(right, int):
            _check(_size(left) * right)
        return super().call_binop(context, operator, left, right)


_COUNTED, _JOINED = "counted turns", "joined texts"


class _Counting(NodeTransformer):
    """Puts filters around what is looped over and what `~` joins."""

    def __init__(self, environment: jinja2.Environment):
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return self._filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)

    def _filtered(self, node: Any, name: str) -> nodes.Filter:
        found = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        found.set_environment(self._environment)
        return found


def _counted(values: Any) -> Iterator[Any]:
    for value in values:
        _spend()
        yield value


def _joined(values: list[Any]) -> str:
    return _bounded_text("".join(str(_shown(value)) for value in values))


def _bounded_text(text: str) -> str:
    _check(len(text))
    return text


def _shown(value: Any) -> Any:
    """Returns a value whose text is not too long."""
    _measure(value)
    return value


def _measure(value: Any) -> None:
    """Takes a step for every value inside, however often the same one is there."""
    _spend()
    if isinstance(value, dict):
        for name, inner in value.items():
            _measure(name)
            _measure(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            _measure(inner)
    elif isinstance(value, str):
        _check(len(value))


def _checked(wrapped: Any, check: Any) -> Any:
    """Returns a filter that checks its arguments first; it keeps what it is passed by Jinja."""
    is_passed = hasattr(wrapped, "jinja_pass_arg")

    @functools.wraps(wrapped)
    def checked(*arguments: Any, **named: Any) -> Any:
        own = list(arguments[1:] if is_passed else arguments)
        if check is _join:
            own[0] = [str(_shown(value)) for value in own[0]]
        check(*own, **named)
        return wrapped(*arguments[: len(arguments) - len(own)], *own, **named)

    return checked


def _indent(text: str, width: Any = 4, *_: Any, **__: Any) -> None:
    width = width if isinstance(width, int) else len(width)
    _check(len(text) + max(0, width) * (1 + text.count("\n")))


def _join(values: list[Any], d: str = "", *_: Any, **__: Any) -> None:
    _check(sum(len(str(value)) + len(d) for value in values))


def _replace(text: str, old: str, new: str, *_: Any, **__: Any) -> None:
    _check(len(text) + text.count(old) * len(new))


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    _measure(value)
    if (indent or 0) > MOST_INDENT:
        raise TemplateRefusal(f"it indents by more than {MOST_INDENT}")
    text = json.dumps(value, ensure_ascii=False, indent=indent, **options)
    return _bounded_text(text)


def _raise(message: str) -> None:
    raise TemplateRefusal(message)


def _is_long(value: Any) -> bool:
    return hasattr(value, "__len__")


def _size(value: Any) -> int:
    if isinstance(value, int):
        return value.bit_length()
    return len(value) if _is_long(value) else 1


def _check(length: int) -> None:
    if length > MOST_LENGTH:
        raise TemplateRefusal(f"it makes more than {MOST_LENGTH} characters")


def _spend() -> None:
    _steps.left = getattr(_steps, "left", MOST_STEPS) - 1
    if _steps.left < 0:
        raise TemplateRefusal(f"it takes more than {MOST_STEPS} steps")
