"""Preprocessors: small steps from a source's records to those that features read."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Iterator, Mapping

from jaxgen.data.draws import Draws
from jaxgen.data.hashing import hash64, record_text
from jaxgen.data.protocols import Context, Epoch, Record
from jaxgen.domains import NonNegativeInt, Seed, check_domains
from jaxgen.errors import ConfigError, DataError


def record_key(record: Record) -> str:
    """Returns the text that tells a record from others: its "key", or all its fields."""
    if "key" in record:
        return str(record["key"])
    return record_text(record)


@dataclasses.dataclass(frozen=True)
class Rename:
    """Renames fields.

    Attributes:
      fields: old names to new ones; other fields stay.
    """

    fields: Mapping[str, str]

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the changed records."""
        del context
        for record in records:
            for old in self.fields:
                need(record, old, "rename.fields")
            kept = {name: value for name, value in record.items() if name not in self.fields}
            yield kept | {new: record[old] for old, new in self.fields.items()}


@dataclasses.dataclass(frozen=True)
class Template:
    """Writes new fields from others, as in `"Question: {question}\\nAnswer:"`.

    Attributes:
      fields: names to templates; doubled braces stand for braces. Several templates of a field are
        variants, as in FLAN (2109.01652): for each record one is drawn, anew in each epoch. Fields
        with variants have equally many, and a record has the same one in all of them.
      seed: the seed of the draws.
    """

    fields: Mapping[str, str | tuple[str, ...]]
    seed: Seed = 0

    def __post_init__(self):
        check_domains(self, "template")
        counts = {name: len(t) for name, t in self.fields.items() if not isinstance(t, str)}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ConfigError(
                f"template.fields has {counts} variants; give each of these fields equally many, "
                "at least one, or a single template."
            )
        for name, template in self._every_template():
            try:
                named = [field for _, field, _, _ in string.Formatter().parse(template)]
                if any(field is not None and not re.match(r"[^\W\d]", field) for field in named):
                    raise ValueError("between braces stands the name of a field, such as {text}")
            except ValueError as error:
                raise ConfigError(
                    f"template.fields[{name!r}] = {template!r} is not a template: {error}. "
                    "Write {{ and }} for literal braces."
                ) from error

    @property
    def variants(self) -> int:
        """Returns the number of templates that one is drawn from."""
        return max((len(t) for t in self.fields.values() if not isinstance(t, str)), default=1)

    @property
    def draws(self) -> bool:
        """Returns whether there is a choice."""
        return self.variants > 1

    def _every_template(self) -> Iterator[tuple[str, str]]:
        for name, templates in self.fields.items():
            yield from (
                (name, t) for t in ([templates] if isinstance(templates, str) else templates)
            )

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the changed records."""
        variant = 0
        for record in records:
            if self.draws:
                draws = Draws(seed_of(record, "template", self.seed, epoch=context.epoch))
                variant = int(draws.integers(1, self.variants)[0])
            written = {}
            for name, templates in self.fields.items():
                template = templates if isinstance(templates, str) else templates[variant]
                for _, field, _, _ in string.Formatter().parse(template):
                    if field is not None:
                        need(record, re.split(r"[.\[]", field)[0], f"template.fields[{name!r}]")
                try:
                    written[name] = template.format_map(record)
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    raise DataError(
                        f"template.fields[{name!r}] = {template!r} does not fit a record: {error}."
                    ) from error
            yield record | written


@dataclasses.dataclass(frozen=True)
class Choices:
    """Writes the correct one of a list of choices as the answer, and the list for the prompt.

    Attributes:
      choices: the field that holds the list.
      label: the field that holds the correct one's number, from 0, or the choice itself.
      answer: the field to write.
      listed: the field to write the choices to, one a line: "A. ...".
    """

    choices: str = "choices"
    label: str = "label"
    answer: str = "answer"
    listed: str = "listed"

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the changed records."""
        del context
        for record in records:
            choices = need_list(record, self.choices, "choices.choices")
            label = need(record, self.label, "choices.label")
            if not isinstance(label, int):
                label = choices.index(str(label)) if str(label) in choices else -1
            if not 0 <= label < len(choices):
                raise DataError(
                    f"the label {record[self.label]!r} is none of the {len(choices)} choices "
                    f"{choices} of a record."
                )
            lines = (f"{string.ascii_uppercase[i]}. {c}" for i, c in enumerate(choices))
            yield record | {self.answer: choices[label], self.listed: "\n".join(lines)}


@dataclasses.dataclass(frozen=True)
class Keep:
    """Keeps only records whose text has some length and matches a pattern.

    Attributes:
      field: the field that holds the text.
      min_characters: fewer leave the record out.
      max_characters: more leave it out.
      pattern: a regular expression that must be found in it; "" is found everywhere.
    """

    field: str = "text"
    min_characters: NonNegativeInt = 0
    max_characters: NonNegativeInt | None = None
    pattern: str = ""

    def __post_init__(self):
        check_domains(self, "keep")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"keep.pattern={self.pattern!r}: {error}.") from error

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records that are kept."""
        del context
        for record in records:
            text = str(need(record, self.field, "keep.field"))
            is_short = self.max_characters is None or len(text) <= self.max_characters
            if is_short and len(text) >= self.min_characters and re.search(self.pattern, text):
                yield record


def need(record: Record, name: str, setting: str):
    """Returns a field of a record, which a setting names.

    Raises:
      DataError: if the record lacks it.
    """
    if name not in record:
        raise DataError(
            f"{setting} asks for {name!r}, and a record has {fields_of(record)}; name one of these."
        )
    return record[name]


def fields_of(record: Record) -> list[str]:
    """Returns the names of a record's fields, for messages, without those that jaxgen keeps."""
    return sorted(name for name in record if not name.startswith("jaxgen."))


def need_list(record: Record, name: str, setting: str) -> list[str]:
    """Returns a field of a record, which must be a list, as texts; raises DataError as `need`."""
    value = need(record, name, setting)
    if not isinstance(value, list | tuple):
        raise DataError(f"{setting} asks for {name!r} as a list, and a record has {value!a:.60}.")
    return [str(one) for one in value]


def seed_of(record: Record, *seed: object, epoch: Epoch | None) -> int:
    """Returns a seed of the record's own, in each epoch another."""
    of_epoch = () if epoch is None else dataclasses.astuple(epoch)
    return hash64(record_key(record), *seed, *of_epoch)
