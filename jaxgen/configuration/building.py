"""Bindings to one tree of plain objects, following gin's rules of scopes, references and macros.

A configurable built in the scope `a/b` takes what is bound in no scope, then in `a`, then in `a/b`.
A reference with a scope replaces the scope around it; one without stays in it. All that is wrong is
collected and reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.configuration.bindings import (
    MACRO,
    REQUIRED,
    Binding,
    Reference,
    label,
    references_in,
)
from jaxgen.configuration.conforming import conform, describe
from jaxgen.configuration.names import unknown_names, unused_lines
from jaxgen.configuration.protocols import fitting, lacking, protocols_in
from jaxgen.configuration.suggesting import did_you_mean, nearest, one_of
from jaxgen.configuration.table import Parameter, Table, is_object, parameters
from jaxgen.errors import ConfigError, JaxgenError

Scope = tuple[str, ...]
_FAILED = object()


def build(bindings: Sequence[Binding], roots: Sequence[str], table: Table) -> list[Any]:
    """Returns what `@root()` builds, for each of the roots that share the bindings.

    Raises:
      ConfigError: for unknown names, values that are missing or of the wrong type, what a
        dataclass refuses, and bindings that nothing uses; each with its place.
    """
    builder = _Builder(bindings, roots, table)
    built = [builder.construct(root, (), "configuration") for root in roots]
    _raise([*builder.problems, *builder.missing.values(), *builder.required.values()])
    _raise(unused_lines(bindings, builder.used, builder.built, table))
    return built


def check(bindings: Sequence[Binding], roots: Sequence[str], table: Table) -> tuple[str, ...]:
    """Checks what can be checked of bindings that need not be whole; what they still require.

    With bindings of the first root they are a run, or its base: all as in `build`, except that
    parameters without a default and values declared `%gin.REQUIRED` may still be missing. Without,
    they are a part for others to include, in which macros may be set elsewhere as well.

    Raises:
      ConfigError: as `build`.
    """
    builder = _Builder(bindings, roots, table)
    if any(binding.name == roots[0] for binding in bindings):
        for root in roots:
            builder.construct(root, (), "configuration")
        _raise([*builder.problems, *builder.missing.values()])
        if not builder.required:
            _raise(unused_lines(bindings, builder.used, builder.built, table))
        return tuple(builder.required)
    places = {(binding.name, binding.scope): binding for binding in bindings}
    for (name, scope), binding in places.items():
        if name != MACRO:
            builder.construct(name, scope, binding.location)
    _raise(builder.problems)
    return tuple({**builder.required, **builder.missing})


class _Builder:
    """One evaluation of bindings; what it used and what was wrong is read off it afterwards."""

    def __init__(self, bindings: Sequence[Binding], roots: Sequence[str], table: Table):
        for root in roots:
            if root not in table:
                raise ConfigError(f"no configurable `{root}`; known names: {one_of(table)}")
        _raise(unknown_names(bindings, table))
        self.problems: list[str] = []
        self.missing: dict[str, str] = {}
        self.required: dict[str, str] = {}
        self.used: set[Binding] = set()
        self.built: set[tuple[Scope, str]] = set()
        self._table = table
        self._active: list[tuple[Scope, str]] = []
        self._failures = 0
        self._bindings = bindings
        self._bound: dict[tuple[Scope, str], dict[str, list[Binding]]] = {}
        for binding in bindings:
            of_name = self._bound.setdefault((binding.scope, binding.name), {})
            of_name.setdefault(binding.parameter, []).append(binding)

    def construct(self, name: str, scope: Scope, location: str) -> Any:
        """Returns the object that `@scope/name()`, written at `location`, builds."""
        step = (scope, name)
        if step in self._active:
            return self._fail(f"{location}: {_reference(scope, name)} is built from itself")
        self._active.append(step)
        try:
            if name == MACRO:
                return self._macro(scope, location)
            self.built.add(step)
            return self._object(name, scope, location)
        finally:
            self._active.pop()

    def _object(self, name: str, scope: Scope, location: str) -> Any:
        failures = self._failures
        known = parameters(self._table[name])
        chosen = self._choose(name, scope)
        arguments = {
            parameter: self._argument(binding, scope, known[parameter].hint)
            for parameter, binding in chosen.items()
        }
        self._expect(known, arguments, label(scope, name), location)
        if self._failures > failures:
            return _FAILED
        try:
            return self._table[name](**arguments)
        except (ValueError, JaxgenError, OSError) as error:
            places = _places(str(error), chosen) or [location]
            subject = "" if str(error).startswith(name) else f"{label(scope, name)}: "
            return self._fail(f"{', '.join(places)}: {subject}{error}")

    def _expect(
        self, known: Mapping[str, Parameter], arguments: dict[str, Any], subject: str, location: str
    ) -> None:
        absent = [name for name in known if known[name].required and name not in arguments]
        if absent:
            self._failures += 1
            needed = ", ".join(f"`{name}` ({describe(known[name].hint)})" for name in absent)
            key = f"{subject}.{absent[0]}"
            message = (
                f"{location}: `{subject}` needs {needed}: write `{key} = ...`, or --gin.{key}=..."
            )
            self.required |= {f"{subject}.{name}": message for name in absent}

    def _macro(self, scope: Scope, location: str) -> Any:
        name = "/".join(scope)
        binding = self._choose(MACRO, scope).get("value")
        if binding is None:
            macros = {str(other): other for other in self._bindings if other.name == MACRO}
            near = nearest(name, macros, count=1)
            where = f" ({near[0]} is set at {macros[near[0]].location})" if near else ""
            self.missing.setdefault(
                name,
                f"{location}: %{name} is used but not set: write `{name} = ...`, or "
                f"--gin.{name}=...{did_you_mean(near)}{where}",
            )
            self._failures += 1
            return _FAILED
        return self._evaluate(binding, binding.value, scope)

    def _choose(self, name: str, scope: Scope) -> dict[str, Binding]:
        """Chooses the binding of each parameter; all that it replaces are used as well."""
        lines: dict[str, list[Binding]] = {}
        for depth in range(len(scope) + 1):
            for parameter, found in self._bound.get((scope[:depth], name), {}).items():
                lines.setdefault(parameter, []).extend(found)
        chosen = {parameter: found[-1] for parameter, found in lines.items()}
        for parameter, found in lines.items():
            order = chosen[parameter].order
            self.used.add(chosen[parameter])
            # A line of a wider scope that comes after the one that wins has no effect: not used.
            for replaced in found[:-1]:
                if replaced.order < order:
                    self.used.add(replaced)
                    self._excuse(replaced.value, scope, order)
        return chosen

    def _excuse(self, value: Any, scope: Scope, before: int) -> None:
        """Counts as used what a replaced value used when it was replaced.

        Else a run that replaces the optimizer of its base would fail on the old one's settings.
        """
        for reference in references_in(value):
            inner = reference.scope or scope
            for depth in range(len(inner) + 1):
                for found in self._bound.get((inner[:depth], reference.name), {}).values():
                    for binding in found:
                        if binding.order < before and binding not in self.used:
                            self.used.add(binding)
                            self._excuse(binding.value, inner, before)

    def _argument(self, binding: Binding, scope: Scope, hint: Any) -> Any:
        failures = self._failures
        value = self._evaluate(binding, binding.value, scope)
        if self._failures > failures:
            return _FAILED
        try:
            return conform(value, hint)
        except TypeError:
            return self._fail(
                f"{self._origin(binding)}: `{binding}` must be {describe(hint)}, "
                f"not {_short(value)}{self._remedy(value, hint)}"
            )

    def _evaluate(self, binding: Binding, value: Any, scope: Scope) -> Any:
        if isinstance(value, Reference):
            if not value.evaluated:
                return self._fail(
                    f"{binding.location}: `{binding} = {value}` builds nothing; write {value}()"
                )
            return self.construct(value.name, value.scope or scope, binding.location)
        if value is REQUIRED:
            self._failures += 1
            self.required[str(binding)] = (
                f"{binding.location}: `{binding}` is required and not set: give it in a later "
                f"line, or --gin.{binding}=..."
            )
            return _FAILED
        if isinstance(value, (tuple, list)):
            return type(value)(self._evaluate(binding, item, scope) for item in value)
        if isinstance(value, dict):
            return {
                self._evaluate(binding, key, scope): self._evaluate(binding, item, scope)
                for key, item in value.items()
            }
        return value

    def _fail(self, problem: str) -> Any:
        self._failures += 1
        self.problems.append(problem)
        return _FAILED

    def _origin(self, binding: Binding) -> str:
        """Returns the line, and where the macro was set that it takes its value from."""
        value = binding.value
        if not isinstance(value, Reference) or value.name != MACRO:
            return binding.location
        macro = self._choose(MACRO, value.scope)["value"]
        return f"{binding.location} (%{macro} from {self._origin(macro)})"

    def _remedy(self, value: Any, hint: Any) -> str:
        if isinstance(value, str) and value.capitalize() in ("True", "False", "None"):
            return f"; write {value.capitalize()}"
        if isinstance(value, str) and value in self._table:
            return f"; write @{value}()"
        if isinstance(value, str):
            return did_you_mean(nearest(value, re.findall(r"'([^']*)'", describe(hint))))
        if "str" in describe(hint).split(" | ") and isinstance(value, bool | int | float):
            return f"; for text write it in quotes, '{value}', and in a shell \"'{value}'\""
        remedy = ""
        for protocol in protocols_in(hint):
            if is_object(value):
                problems = "; ".join(lacking(type(value), protocol))
                remedy += f"; it has {problems}" if problems else ""
            names = fitting(protocol, self._table)
            if names:
                remedy += f"; write {' or '.join(f'@{name}()' for name in names[:8])}"
        return remedy


def _reference(scope: Scope, name: str) -> str:
    return label(scope, name) if name == MACRO else f"@{label(scope, name)}()"


def _places(message: str, chosen: dict[str, Binding]) -> list[str]:
    """Returns where the parameters were set that a dataclass's complaint speaks of."""
    words = set(re.findall(r"\w+", message))
    places = [binding.location for parameter, binding in chosen.items() if parameter in words]
    return list(dict.fromkeys(places))


def _short(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return text if value is None else f"{text} ({type(value).__name__})"


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
