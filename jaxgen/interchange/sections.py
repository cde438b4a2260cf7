"""Sections of a config.json: a part of a model that has an object of keys of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import check_counts
from jaxgen.interchange.entries import checked, get_field
from jaxgen.interchange.harmless import is_harmless
from jaxgen.interchange.tables import Entry, Values


@dataclasses.dataclass(frozen=True)
class Section:
    """An entry that is an object of entries, those of one part of the configuration.

    Attributes:
      key: the name in config.json; under KEY_dict, older files have another object that wins.
      part: the dotted name of the part of the configuration; "": it is the whole.
      entries: those of the object, whose fields are the part's.
      defaults: what files leave out, since it is the default of the part's own class.
      repeats: (key, field of the whole) for keys that repeat in the object what the whole has; they
        are written and not read.
      inert: keys of the object that change nothing.
    """

    key: str
    part: str
    entries: tuple[Entry, ...]
    defaults: Mapping[str, Any]
    repeats: tuple[tuple[str, str], ...] = ()
    inert: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Returns the key, and that of older files."""
        return (self.key, f"{self.key}_dict")

    def values_in(self, values: Values) -> dict[str, Any]:
        """Returns the keys of the object, with those that it leaves out.

        Raises:
          InterchangeError: if it is no object, or has more layers than there is memory to name.
        """
        own, older = (values.get(key) for key in self.keys)
        found = dict(self.defaults)
        for one in ({} if own is None else own, older):
            if one is not None:
                found |= self.defaults | checked(self.key, one, (dict,))
        check_counts(found)
        return found

    def read(self, values: Values) -> dict[str, Any]:
        found = self.values_in(values)
        known = {key for entry in self.entries for key in entry.keys}
        known |= {*self.inert, *self.defaults, *(key for key, _ in self.repeats)}
        unknown = [k for k, v in found.items() if k not in known and not is_harmless(k, v)]
        if unknown:
            said = ", ".join(f"{key}={found[key]!r}" for key in unknown)
            raise InterchangeError(
                f"{self.key} in config.json says {said}, which jaxgen does not know. If the model "
                "computes the same without, take it out of the file; otherwise it cannot be "
                "imported."
            )
        fields: dict[str, Any] = {}
        for entry in self.entries:
            fields |= entry.read(found)
        part = f"{self.part}." if self.part else ""
        return {f"{part}{name}": value for name, value in fields.items()}

    def write(self, config: Any) -> dict[str, Any]:
        part = get_field(config, self.part)
        values = {key: get_field(config, field) for key, field in self.repeats}
        if "model_type" in self.defaults:
            values["model_type"] = self.defaults["model_type"]
        for entry in self.entries:
            values |= entry.write(part)
        return {self.key: values}
