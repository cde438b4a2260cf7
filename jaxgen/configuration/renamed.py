"""Names that configurations of earlier versions used, so that old run directories still load.

Whoever renames or moves a field writes a line here. Only the recorded config.gin of a run is
migrated; in anybody's own gin files an old name is an error that suggests the new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jaxgen.configuration.bindings import Binding, Reference

RENAMED: Final[Mapping[str, str | None]] = {
    "evaluation_task.scoring@execution": "code_execution",
    "layer.visibility": "layer.mask",
    "list_functions.given": "list_functions.function_by",
    "model.label_smoothing": "next_token_loss.label_smoothing",
    "model.remat": "execution.remat",
    "model.scan_unroll": "execution.scan_unroll",
    "model.z_loss": "next_token_loss.z_loss",
    "run.mesh": "execution.mesh",
    "run.rules": "execution.rules",
    "text.objective": "text.denoising",
    "text.objective@next_token": None,
    **{
        f"execution.{name}": f"code_execution.{name}"
        for name in (
            "max_tokens",
            "memory_bytes",
            "policy",
            "seconds",
            "stop",
            "targets",
        )
    },
    **{
        f"train.{name}": f"execution.{name}"
        for name in (
            "accumulation",
            "checkpoint_every",
            "data_workers",
            "keep_checkpoints",
            "log_every",
            "noise_scale",
        )
    },
}
"""Old name to new name.

"old_name": "new_name" renames a class, in its bindings and in references to it.
"name.old": "name.new" renames a field; "name.old": "other.new" moves it to another class.
"name.old": None drops a field that no longer means anything.
"name.field@old": "new" renames a class in that field alone, where `old` has come to mean another;
with None as the new name the field becomes None.
Chains are followed. No other old name may be in use again, or new runs would be migrated too.
"""

PARENTS: Final[Mapping[str, str]] = {"next_token_loss": "run.objective"}
"""Class that fields were moved to, and the field that holds it, such as "inner": "run.inner".

A configuration that was written before the class existed does not reference it; with a line here,
the reference is added to those in which a field was moved to it.
"""


def migrate(
    bindings: Iterable[Binding],
    renamed: Mapping[str, str | None] = RENAMED,
    parents: Mapping[str, str] = PARENTS,
) -> tuple[list[Binding], list[str]]:
    """Returns the bindings under today's names, and lines such as `model.a is now model.b`."""
    notes: dict[str, None] = {}
    migrated = []
    for binding in bindings:
        name, parameter = binding.name, binding.parameter
        value = _renamed_references(binding.value, f"{name}.{parameter}", renamed, notes)
        while (found := _target(name, parameter, renamed)) is not None:
            notes[found[1]] = None
            if found[0] is None:
                break
            name, parameter = found[0]
        else:
            moved = dataclasses.replace(binding, name=name, parameter=parameter, value=value)
            migrated.append(moved)
    return [*migrated, *_added_references(migrated, parents)], list(notes)


def _target(
    name: str, parameter: str, renamed: Mapping[str, str | None]
) -> tuple[tuple[str, str] | None, str] | None:
    """Returns ((name, parameter), note), (None, note) of a dropped field, None if not renamed."""
    field = f"{name}.{parameter}"
    if field in renamed:
        new = renamed[field]
        if new is None:
            return None, f"{field} is no longer there"
        new_name, _, new_parameter = new.rpartition(".")
        return (new_name, new_parameter), f"{field} is now {new}"
    new = renamed.get(name)
    return None if new is None else ((new, parameter), f"{name} is now {new}")


def _renamed_references(
    value: Any, field: str, renamed: Mapping[str, str | None], notes: dict[str, None]
) -> Any:
    if isinstance(value, Reference):
        name = value.name
        for old in (f"{field}@{name}", name):
            while old in renamed:
                new = renamed[old]
                notes[f"{old} is now {new}"] = None
                if new is None:
                    return None
                name = old = new
        return dataclasses.replace(value, name=name)
    if isinstance(value, (tuple, list)):
        return type(value)(_renamed_references(item, field, renamed, notes) for item in value)
    if isinstance(value, dict):
        return {key: _renamed_references(v, field, renamed, notes) for key, v in value.items()}
    return value


def _added_references(bindings: list[Binding], parents: Mapping[str, str]) -> list[Binding]:
    """Returns bindings of the parents' fields that lack the reference to a bound class."""
    bound = {f"{binding.name}.{binding.parameter}" for binding in bindings}
    added = []
    for name, field in parents.items():
        first = next((binding for binding in bindings if binding.name == name), None)
        if first is not None and field not in bound:
            parent, _, parameter = field.rpartition(".")
            value = Reference(first.scope, name)
            order = len(bindings) + len(added)
            added.append(Binding((), parent, parameter, value, first.location, order))
    return added
