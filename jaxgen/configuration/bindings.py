"""Bindings: names bound to values, and where, before anything is built."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

MACRO: Final = "%"
"""The name under which a macro is bound: `STEPS = 3` binds `value` of `%` in the scope `STEPS`."""


class _Required:
    def __repr__(self) -> str:
        return "%gin.REQUIRED"


REQUIRED: Final = _Required()
"""The value of `X = %gin.REQUIRED`: someone who includes the file must give it."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/name()`: what `name` builds in that scope; the scope around it if it names none."""

    scope: tuple[str, ...]
    name: str
    evaluated: bool = True

    def __repr__(self) -> str:
        return f"@{'/'.join((*self.scope, self.name))}{'()' if self.evaluated else ''}"


def macro_reference(name: str) -> Reference:
    """Returns `%name`, whose value is evaluated in the scope that its name is, as in gin."""
    return Reference(tuple(name.split("/")), MACRO)


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
    """One line `scope/name.parameter = value`; a later line of the same key replaces it.

    Attributes:
      scope: () outside all scopes.
      name: what is configured, or MACRO.
      parameter: of `name`.
      value: literals and Reference, nested in tuples, lists and dicts.
      location: `file:line`, or the binding of the command line.
      order: position among all lines that were read.
    """

    scope: tuple[str, ...]
    name: str
    parameter: str
    value: Any
    location: str
    order: int

    def __str__(self) -> str:
        if self.name == MACRO:
            return "/".join(self.scope)
        return f"{label(self.scope, self.name)}.{self.parameter}"


@dataclasses.dataclass(frozen=True)
class Import:
    """One line `import module`: the text uses parts of a module that must be loaded already."""

    module: str
    location: str


@dataclasses.dataclass(frozen=True)
class Lines:
    """All lines of some texts, in order."""

    bindings: list[Binding]
    imports: list[Import]


def label(scope: tuple[str, ...], name: str) -> str:
    """Returns `scope/name`; of a macro, `%name`."""
    return "%" + "/".join(scope) if name == MACRO else "/".join((*scope, name))


def references_in(value: Any) -> list[Reference]:
    """Returns every reference in a value, also inside tuples, lists and dicts."""
    if isinstance(value, Reference):
        return [value]
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item]
    if isinstance(value, (tuple, list)):
        return [reference for item in value for reference in references_in(item)]
    return []
