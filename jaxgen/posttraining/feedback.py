"""Feedback of a model (2212.08073): which of two answers follows a principle better.

The probabilities of "(A)" and "(B)" after a question are a soft label for a preference model.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from jaxgen.data.draws import Draws
from jaxgen.data.preprocessors import need, record_key, seed_of
from jaxgen.data.principle_files import asset
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, PositiveInt, Seed, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.posttraining.principles import check_principles, check_template
from jaxgen.posttraining.resuming import append_made, written
from jaxgen.posttraining.writing import Weigh, Write


@dataclasses.dataclass(frozen=True)
class Judging:
    """The settings of a model's feedback on pairs.

    Attributes:
      principles: `num_principles` different ones are drawn for each pair.
      num_principles: whose probabilities are averaged.
      template: with {prompt}, {principle}, {first} and {second}.
      choices: what the model would say for the first and for the second.
      both_orders: whether each pair is asked about in both orders, which are averaged, so that a
        preference for "(A)" cancels.
      clamp: probabilities stay within clamp and 1 - clamp; 0.4 is the paper's, for labels that a
        chain of thought has made too sure. 0 leaves them as they are.
      prompt: the field of the prompt.
      completions: the field of the two answers.
      seed: of the draws of principles.
    """

    principles: tuple[str, ...]
    num_principles: PositiveInt = 1
    template: str = dataclasses.field(default_factory=lambda: asset("feedback.txt"))
    choices: tuple[str, str] = (" (A)", " (B)")
    both_orders: bool = True
    clamp: Annotated[float, Domain(0, 0.5)] = 0.0
    prompt: str = "prompt"
    completions: str = "completions"
    seed: Seed = 0

    def __post_init__(self):
        check_domains(self, "judging")
        check_principles(self.principles)
        check_template("template", self.template, {"prompt", "principle", "first", "second"})
        if self.num_principles > len(self.principles):
            raise ConfigError(
                f"judging.num_principles={self.num_principles}, and there are "
                f"{len(self.principles)} principles; ask for fewer."
            )


def judge(
    records: Iterable[Record],
    weigh: Weigh,
    settings: Judging,
    output: str | Path,
    batch_size: int = 16,
    writer: object = "",
    write: Write | None = None,
) -> int:
    """Writes a model's preferences to a JSON-lines file; returns how many are new.

    A row has `key`, `prompt`, the two `completions` with `scores` (the probability of each), the
    `principles`, `chosen`, `rejected`, and `preference`, the probability of the chosen one.

    Args:
      records: with a prompt and two completions, in a fixed order.
      weigh: a model.
      settings: the principles and the template.
      output: the file; rows that it has are kept.
      batch_size: records at a time, after which they are written.
      writer: as in `revise`.
      write: a model that writes two completions where a record has none; None: all have them.

    Raises:
      ConfigError: if the file was begun with other settings.
      DataError: if a record is no pair.
    """

    def rows(batch: Sequence[Record]) -> list[Record]:
        if write is not None:
            batch = with_pairs(batch, write, settings.prompt, settings.completions)
        pairs = [_pair(record, settings.completions) for record in batch]
        prompts = [str(need(record, settings.prompt, "judging.prompt")) for record in batch]
        drawn = [_several_for(record, settings) for record in batch]
        asked, orders = [], (False, True) if settings.both_orders else (False,)
        for prompt, pair, principles in zip(prompts, pairs, drawn, strict=True):
            for principle, is_swapped in itertools.product(principles, orders):
                first, second = pair[::-1] if is_swapped else pair
                fields = {"prompt": prompt.strip(), "principle": principle}
                both = {"first": first.strip(), "second": second.strip()}
                asked.append(settings.template.format_map(fields | both))
        logs = np.asarray(weigh(asked, settings.choices), np.float64)
        if logs.shape != (len(asked), 2) or np.isnan(logs).any():
            raise DataError(
                f"the model gave weights of shape {list(logs.shape)} for {len(asked)} questions of "
                "two choices; they must be a log-probability each."
            )
        says_first = np.exp(-np.logaddexp(0, logs[:, 1] - logs[:, 0]))
        says_first = says_first.reshape(len(batch), settings.num_principles, len(orders))
        if settings.both_orders:
            says_first[..., 1] = 1 - says_first[..., 1]
        likely = np.clip(says_first.mean((1, 2)), settings.clamp, 1 - settings.clamp)
        return [
            {
                "key": record_key(record),
                "prompt": prompt,
                "completions": list(pair),
                "scores": [float(p), float(1 - p)],
                "principles": principles,
                "chosen": pair[0] if p >= 0.5 else pair[1],
                "rejected": pair[1] if p >= 0.5 else pair[0],
                "preference": float(max(p, 1 - p)),
            }
            for record, prompt, pair, principles, p in zip(
                batch, prompts, pairs, drawn, likely, strict=True
            )
        ]

    return append_made(records, rows, settings, Path(output), batch_size, writer)


def with_pairs(
    records: Sequence[Record],
    write: Write,
    prompt: str = "prompt",
    completions: str = "completions",
) -> list[Record]:
    """Returns records with two completions each; those that have none get two of a model's.

    Two draws may be the same; `judge` finds such a pair even.
    """
    prompts = [str(need(r, prompt, "prompt")) for r in records if completions not in r]
    found = iter(written(write, [one for one in prompts for _ in range(2)]))
    return [
        record if completions in record else record | {completions: [next(found), next(found)]}
        for record in records
    ]


def _several_for(record: Record, settings: Judging) -> list[str]:
    """Returns different principles for a record."""
    draws = Draws(seed_of(record, "judge", settings.seed, epoch=None))
    order = draws.permutation(len(settings.principles))[: settings.num_principles]
    return [settings.principles[place] for place in order]


def _pair(record: Record, name: str) -> tuple[str, str]:
    pair = need(record, name, "judging.completions")
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise DataError(f"{name!r} must be a list of two texts, and a record has {pair!a:.60}.")
    return str(pair[0]), str(pair[1])
