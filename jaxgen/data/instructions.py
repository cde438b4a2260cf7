"""Tasks asked for in words, FLAN-style (2109.01652): templates by families, in a JSON file.

A file maps families to their tasks, and a task to its templates, of which one is drawn for each
record and epoch. `assets/instructions.json` has those of the generated tasks; yours may have any:

    {"arithmetic": {"addition": {
        "read": {"prompt": "0*(?P<first>[0-9]+)[+]0*(?P<second>[0-9]+)=",
                 "answer": "0*(?P<sum>[0-9]+)"},
        "templates": [["What is {first} plus {second}?", "{sum}"],
                      ["How much must be added to {first} to get {sum}?", "{second}"]]}}}

A template is a prompt and an answer, which name fields of the record. Further fields come from
"read", regular expressions that the fields they are given for must match as a whole, by their named
groups; and from "rewrite", by the name of a new field the name of an old one, a regular expression
and what replaces it wherever it is found. With "by": FIELD, "templates" has a list for each value
of that field. Of a record with turns, the first counts.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxgen.data.draws import Draws
from jaxgen.data.hashing import hash64, record_text
from jaxgen.data.preprocessors import need, seed_of
from jaxgen.data.protocols import Context, Record
from jaxgen.data.tasks import Task
from jaxgen.domains import Seed, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.json_values import read_json

OWN = Path(__file__).with_name("assets") / "instructions.json"
SHAPE = {
    str: {
        str: {
            "read?": {str: str},
            "rewrite?": {str: [str]},
            "by?": str,
            "templates": ([[str]], {str: [[str]]}),
        }
    }
}


@dataclasses.dataclass(frozen=True)
class Instructions:
    """Writes a record of a task as an instruction in words, and the answer to it.

    Attributes:
      task: the name of the task in the file of templates.
      form: "prompt" writes the fields prompt (with a line break) and answer; "chat" a list of
        `messages`, of the user and the assistant.
      file: a JSON file of templates; "" is the one that comes with jaxgen.
      seed: the seed of the draws.
    """

    task: str
    form: Literal["prompt", "chat"] = "prompt"
    file: str = ""
    seed: Seed = 0

    draws = True

    def __post_init__(self):
        check_domains(self, "instructions")
        _ = self.family  # A task that the file lacks is refused here.

    @property
    def family(self) -> str:
        """Returns the family of the task."""
        for family, tasks in read_instructions(self.file).items():
            if self.task in tasks:
                return family
        known = [name for tasks in read_instructions(self.file).values() for name in tasks]
        raise ConfigError(
            f"instructions.task={self.task!r} has no templates in {self.file or OWN}; it has "
            f"{', '.join(known)}."
        )

    def content_digest(self) -> str:
        """Returns a text that changes with the templates of the task."""
        return f"{hash64(record_text(read_instructions(self.file)[self.family][self.task])):016x}"

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records with prompt and answer, or messages, and the `family`."""
        family = self.family
        of_task = read_instructions(self.file)[family][self.task]
        for record in records:
            fields = self._fields(record, of_task)
            templates = self._templates(fields, of_task)
            draws = Draws(seed_of(record, "instructions", self.seed, epoch=context.epoch))
            drawn = templates[int(draws.integers(1, len(templates))[0])]
            prompt, answer = (self._filled(text, fields) for text in drawn)
            kept = {name: value for name, value in record.items() if name != "turns"}
            # What tells records apart stays that of the record before.
            yield (
                kept
                | {"key": record.get("key", prompt), "family": family}
                | self._asked(prompt, answer)
            )

    def _asked(self, prompt: str, answer: str) -> Record:
        if self.form == "prompt":
            return {"prompt": f"{prompt}\n", "answer": answer}
        turns = [("user", prompt), ("assistant", answer)]
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    def _fields(self, record: Record, of_task: Mapping[str, Any]) -> Record:
        fields = dict(record)
        if "turns" in record:
            fields["prompt"], fields["answer"] = record["turns"][0]
        for name, pattern in of_task.get("read", {}).items():
            text = str(need(fields, name, f"{self.file or OWN}: read of {self.task}"))
            match = re.fullmatch(pattern, text, re.DOTALL)
            if match is None:
                raise DataError(
                    f"instructions of {self.task}: {pattern!r}, by which {self.file or OWN} reads "
                    f"{name!r}, does not match {text!a:.80}; change the one or the other."
                )
            fields |= match.groupdict()
        for name, (old, pattern, new) in of_task.get("rewrite", {}).items():
            text = str(need(fields, old, f"{self.file or OWN}: rewrite of {self.task}"))
            fields[name] = re.sub(pattern, new, text)
        return fields

    def _templates(self, fields: Record, of_task: Mapping[str, Any]) -> Sequence[Sequence[str]]:
        if "by" not in of_task:
            return of_task["templates"]
        value = str(need(fields, of_task["by"], f"{self.file or OWN}: by of {self.task}"))
        if value not in of_task["templates"]:
            raise DataError(
                f"instructions of {self.task}: {self.file or OWN} has no templates where "
                f"{of_task['by']} is {value!r}, only for {', '.join(of_task['templates'])}."
            )
        return of_task["templates"][value]

    def _filled(self, template: str, fields: Record) -> str:
        try:
            return template.format_map(fields)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"instructions of {self.task}: the template {template!r} does not fit a record "
                f"with {sorted(fields)}: {error}."
            ) from error


def read_instructions(file: str = "") -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Returns the families, their tasks and what a file says of each; see the module.

    Raises:
      ConfigError: if the file cannot be read, or something in it cannot be what was meant.
    """
    path = Path(file).expanduser() if file else OWN
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"instructions.file={file!r} is not there.") from None


@functools.lru_cache(maxsize=8)
def _read(path: Path, stamp: int) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    del stamp
    fix = "see jaxgen/data/instructions.py for what it must be"
    families = read_json(path, SHAPE, fix, ConfigError)
    names = [name for tasks in families.values() for name in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path} has the task(s) {twice} in several families; rename one.")
    for tasks in families.values():
        for name, of_task in tasks.items():
            _check(path, name, of_task)
    return families


def _check(path: Path, name: str, of_task: Mapping[str, Any]) -> None:
    templates = of_task["templates"]
    if isinstance(templates, dict) != ("by" in of_task):
        raise ConfigError(
            f"{path}: the templates of {name} are a list, or with 'by' a list for each value."
        )
    lists = list(templates.values()) if isinstance(templates, dict) else [templates]
    if not all(lists) or any(len(pair) != 2 for some in lists for pair in some):
        raise ConfigError(
            f"{path}: each template of {name} is [prompt, answer], and there must be one at least."
        )
    if any(len(rule) != 3 for rule in of_task.get("rewrite", {}).values()):
        raise ConfigError(f"{path}: rewrite of {name} needs [field, pattern, replacement].")
    patterns = [*of_task.get("read", {}).values()]
    patterns += [rule[1] for rule in of_task.get("rewrite", {}).values()]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{path}: {name} has the pattern {pattern!r}: {error}.") from error


def family_of(task: Task) -> str | None:
    """Returns the family of a task that is asked for in words; None of another."""
    for step in task.preprocessors:
        if isinstance(step, Instructions):
            return step.family
    return None


def tasks_of_families(
    tasks: tuple[Task, ...], families: tuple[str, ...], inside: bool = True
) -> tuple[Task, ...]:
    """Returns the tasks that belong to one of the families, or those that do not.

    Args:
      tasks: with `Instructions` among their preprocessors; others belong to no family.
      families: their names.
      inside: whether those that belong to one are asked for, or the others.

    Raises:
      ConfigError: if no task belongs to one of the families, or none is left.
    """
    known = {family_of(task) for task in tasks} - {None}
    if not set(families) <= known:
        raise ConfigError(
            f"families={families}: no task belongs to {sorted(set(families) - known)}; the "
            f"families here are {sorted(map(str, known))}."
        )
    chosen = tuple(task for task in tasks if (family_of(task) in families) == inside)
    if not chosen:
        raise ConfigError(
            "families is empty; name one at least, such as ('comparison',)."
            if inside
            else f"families={families} leaves no task to train on."
        )
    return chosen
