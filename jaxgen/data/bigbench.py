"""Tasks of BIG-bench as they are: the JSON form of its task.json (2206.04615)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from jaxgen.data.protocols import Record
from jaxgen.data.sources import Entry, FileSource, OnError
from jaxgen.data.storage import open_binary
from jaxgen.data.text_files import parse_json
from jaxgen.domains import UnitFraction
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class BigBench(FileSource):
    """Reads BIG-bench task files, one record {"prompt", "answer", "targets", "key"} per example.

    Prompts are the file's task_prefix, the input after example_input_prefix and
    example_output_prefix, as BIG-bench writes them. Examples with target_scores have "choices"
    (and, unless append_choices_to_input is false, a line for each in the prompt) and the best one's
    number as "label"; "scores" keeps the scores. Examples without a target are errors.

    Attributes:
      pattern: see `FileSource`; of a folder its files named task.json, at any depth.
      key_field: likewise.
      heldout_fraction: likewise; all is held out by default. Less leaves examples for few-shot
        prompts to be drawn from.
      on_error: likewise.
    """

    pattern: str
    key_field: str | None = "key"
    heldout_fraction: UnitFraction = 1.0
    on_error: OnError = "raise"

    ENDINGS: ClassVar[tuple[str, ...]] = ("task.json",)

    def entries(self, file: str) -> Iterator[Entry]:
        """Yields the examples, in order."""
        with open_binary(file) as stream:
            task = parse_json(stream.read(), file)
        if not isinstance(task, dict) or not isinstance(task.get("examples"), list):
            raise DataError(
                f"{file} is not a BIG-bench task, which is an object with a list of examples."
            )
        for number, example in enumerate(task["examples"]):
            place = f"{file}, example {number}"
            try:
                yield place, _record(task, example) | {"key": f"{task.get('name', '')}:{number}"}
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                yield place, DataError(f"{place}: no input with target or target_scores ({error}).")


def _record(task: Mapping[str, Any], example: Mapping[str, Any]) -> Record:
    """Returns an example's record; raises LookupError, TypeError or ValueError if malformed."""
    before = task.get("example_input_prefix", "\nQ: ")
    after = task.get("example_output_prefix", "\nA: ")
    prompt = f"{task.get('task_prefix', '')}{before}{example['input']}"
    scores = example.get("target_scores")
    if scores is None:
        targets = example["target"]
        targets = [targets] if isinstance(targets, str) else [str(one) for one in targets]
        return {"prompt": prompt + after, "answer": targets[0], "targets": targets}
    choices = list(scores)
    if task.get("append_choices_to_input", True):
        mark = task.get("choice_prefix", "\n  choice: ")
        prompt += "".join(f"{mark}{choice}" for choice in choices)
    label = max(range(len(choices)), key=lambda place: float(scores[choices[place]]))
    return {
        "prompt": prompt + after,
        "choices": choices,
        "label": label,
        "scores": [float(score) for score in scores.values()],
        "answer": choices[label],
        "targets": [choices[label]],
    }
