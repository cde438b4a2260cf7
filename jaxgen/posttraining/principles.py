"""Principles, and answers that are revised by them: constitutional AI's first phase (2212.08073).

A model answers, criticises its answer by a principle that is drawn for each example, and revises
it; the revisions are what a model is then tuned on. `feedback` has the second phase.

Both write JSON lines that ordinary sources read, a batch at a time; started again with the same
settings they go on behind what is there, and end with the same file.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from jaxgen.data.draws import Draws
from jaxgen.data.preprocessors import need, record_key, seed_of
from jaxgen.data.principle_files import asset
from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveInt, Seed, check_domains
from jaxgen.errors import ConfigError
from jaxgen.posttraining.resuming import append_made, written
from jaxgen.posttraining.writing import Write


@dataclasses.dataclass(frozen=True)
class Revising:
    """The settings of critique and revision.

    Attributes:
      principles: one is drawn for each example and round.
      rounds: of a critique and a revision, each of what the last one wrote.
      critique: a template with {prompt}, {response} and {principle}.
      revision: a template that may have {critique} too.
      prompt: the field of the prompt, which the model answers as it is.
      response: the field of an answer that is there already; records without it are answered.
      seed: of the draws of principles.
    """

    principles: tuple[str, ...]
    rounds: PositiveInt = 1
    critique: str = dataclasses.field(default_factory=lambda: asset("critique.txt"))
    revision: str = dataclasses.field(default_factory=lambda: asset("revision.txt"))
    prompt: str = "prompt"
    response: str = "response"
    seed: Seed = 0

    def __post_init__(self):
        check_domains(self, "revising")
        check_principles(self.principles)
        check_template("critique", self.critique, {"prompt", "response", "principle"})
        known = {"prompt", "response", "principle", "critique"}
        check_template("revision", self.revision, known)


def revise(
    records: Iterable[Record],
    write: Write,
    settings: Revising,
    output: str | Path,
    batch_size: int = 16,
    writer: object = "",
) -> int:
    """Writes revised answers to a JSON-lines file; returns how many are new.

    A row has `key`, `prompt`, the first `response`, the `rounds` (each with `principle`, `critique`
    and `revision`), and the last revision as `answer` and as `chosen`, the response as `rejected`.

    Args:
      records: with a prompt, in a fixed order.
      write: a model.
      settings: the principles and templates.
      output: the file; rows that it has are kept.
      batch_size: records at a time, after which they are written.
      writer: names the model and how it writes, so that another one does not go on with the file.

    Raises:
      ConfigError: if the file was begun with other settings.
      DataError: if a record has no prompt, or the model returns a wrong number of texts.
    """

    def rows(batch: Sequence[Record]) -> list[Record]:
        prompts = [str(need(record, settings.prompt, "revising.prompt")) for record in batch]
        missing = [p for r, p in zip(batch, prompts, strict=True) if settings.response not in r]
        answers = iter(written(write, missing))
        responses = [
            str(record[settings.response]) if settings.response in record else next(answers)
            for record in batch
        ]
        latest, rounds = responses, [[] for _ in batch]
        for number in range(settings.rounds):
            fields = [
                {"prompt": prompt.strip(), "response": response.strip(), "principle": principle}
                for prompt, response, principle in zip(
                    prompts, latest, _drawn_for(batch, settings, number), strict=True
                )
            ]
            asked = [settings.critique.format_map(one) for one in fields]
            critiques = written(write, asked)
            asked = [
                settings.revision.format_map(one | {"critique": critique})
                for one, critique in zip(fields, critiques, strict=True)
            ]
            latest = written(write, asked)
            for place, one in enumerate(fields):
                made = {"critique": critiques[place], "revision": latest[place]}
                rounds[place].append({"principle": one["principle"], **made})
        return [
            {
                "key": record_key(record),
                "prompt": prompt,
                "response": response,
                "rounds": of_record,
                "answer": revised,
                "chosen": revised,
                "rejected": response,
            }
            for record, prompt, response, of_record, revised in zip(
                batch, prompts, responses, rounds, latest, strict=True
            )
        ]

    return append_made(records, rows, settings, Path(output), batch_size, writer)


def _drawn_for(batch: Sequence[Record], settings: Revising, number: int) -> list[str]:
    """Returns a principle for each record in a round."""
    found = []
    for record in batch:
        draws = Draws(seed_of(record, "revise", number, settings.seed, epoch=None))
        found.append(settings.principles[int(draws.integers(1, len(settings.principles))[0])])
    return found


def check_principles(principles: Sequence[str]) -> None:
    """Raises ConfigError if there is no principle, or an empty one."""
    if not principles or not all(one.strip() for one in principles):
        raise ConfigError(f"principles={principles!a:.80}: give one at least, none of them empty.")


def check_template(name: str, template: str, known: set[str]) -> None:
    """Raises ConfigError if a template is none, or asks for more than is known."""
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
    except ValueError as error:
        raise ConfigError(f"the {name} {template!a:.80} is not a template: {error}.") from error
    if not fields <= known:
        raise ConfigError(
            f"the {name} {template!a:.80} asks for {sorted(fields - known)}; it may have "
            f"{', '.join(sorted(known))}. Write {{{{ and }}}} for literal braces."
        )
