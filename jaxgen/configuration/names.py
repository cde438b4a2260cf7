"""Refuses names that mean nothing: unknown configurables, parameters, and unused lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from jaxgen.configuration.bindings import MACRO, Binding, label, references_in
from jaxgen.configuration.suggesting import did_you_mean, nearest, one_of
from jaxgen.configuration.table import Table, parameters


def unknown_names(bindings: Sequence[Binding], table: Table) -> list[str]:
    """Returns a line for every name that the table does not have, with the nearest that it has."""
    problems = []
    for binding in bindings:
        for reference in references_in(binding.value):
            if reference.name not in table and reference.name != MACRO:
                problems.append(
                    f"{binding.location}: unknown name `{reference.name}` in `{reference}`"
                    + _nearest_or_all(reference.name, table, "known names")
                )
        if binding.name in table:
            problems += _unknown_parameter(binding, table)
        elif binding.name != MACRO:
            problems.append(
                f"{binding.location}: unknown name `{binding.name}` in `{binding}`"
                + _nearest_or_all(binding.name, table, "known names")
            )
    return problems


def unused_lines(
    bindings: Sequence[Binding],
    used: Collection[Binding],
    built: Collection[tuple[tuple[str, ...], str]],
    table: Table,
) -> list[str]:
    """Returns a line for every binding and macro that had no part in what was built."""
    problems = []
    for binding in bindings:
        if binding in used:
            continue
        if binding.name == MACRO:
            macros = [
                "/".join(reference.scope)
                for other in bindings
                for reference in references_in(other.value)
                if reference.name == MACRO
            ]
            near = [*nearest(str(binding), macros), *_owners(str(binding), table)]
            problems.append(
                f"{binding.location}: macro `{binding}` is set, but nothing uses "
                f"%{binding}{did_you_mean(near[:3])}"
            )
            continue
        problems.append(
            f"{binding.location}: `{binding}` is set, but {_why_unused(binding, built)}"
        )
    return problems


def _why_unused(binding: Binding, built: Collection[tuple[tuple[str, ...], str]]) -> str:
    what = label(binding.scope, binding.name)
    scopes = sorted(scope for scope, name in built if name == binding.name)
    within = [scope for scope in scopes if scope[: len(binding.scope)] == binding.scope]
    if within:
        narrower = [f"{label(scope, binding.name)}.{binding.parameter}" for scope in within]
        return f"an earlier line of a narrower scope wins; write {one_of(narrower)}"
    if scopes:
        return f"`{what}` is built only as {one_of(label(s, binding.name) for s in scopes)}"
    return f"no `{what}` is built"


def _unknown_parameter(binding: Binding, table: Table) -> list[str]:
    known = parameters(table[binding.name])
    if binding.parameter in known:
        return []
    near = nearest(binding.parameter, known)
    if not near and (owners := _owners(binding.parameter, table)):
        hint = did_you_mean(owners)
    else:
        hint = _nearest_or_all(binding.parameter, known, "it has")
    return [f"{binding.location}: `{binding.name}` has no parameter `{binding.parameter}`{hint}"]


def _owners(parameter: str, table: Table) -> list[str]:
    """Returns the names that have this parameter, as `name.parameter`."""
    owned = [(name, known) for name in table for known in parameters(table[name])]
    folded = parameter.casefold()
    return [f"{name}.{known}" for name, known in owned if known.casefold() == folded][:3]


def _nearest_or_all(word: str, known: Iterable[str], introduction: str) -> str:
    known = list(known)
    return did_you_mean(nearest(word, known)) or f"; {introduction}: {one_of(known)}"
