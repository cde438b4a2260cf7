"""Completions of a policy with their scores, as a file: best of n, rejection sampling, pairs.

A row has a prompt, all its completions and their scores; the best of them is `answer`, which an
ordinary run imitates (rejection-sampling fine-tuning; with a threshold, STaR, 2203.14465), and the
best and the worst are `chosen` and `rejected`, which a run of preferences reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.data.hashing import hash64
from jaxgen.data.preprocessors import record_key
from jaxgen.data.protocols import Record
from jaxgen.posttraining.prompts import Prompt, Prompts
from jaxgen.posttraining.resuming import append_made
from jaxgen.posttraining.rewards import score
from jaxgen.posttraining.rollouts import Rollouts
from jaxgen.posttraining.sampled_groups import sample_groups


@dataclasses.dataclass(frozen=True)
class Collecting:
    """What is collected.

    Attributes:
      at_least: rows whose best score is below have "no" as their `kept`, others "yes", for
        `@keep()` of the field; None: only rows without any score have.
      seed: of the draws.
    """

    at_least: float | None = None
    seed: int = 0


def collect(
    model: Any,
    rollouts: Rollouts,
    length: int,
    num_prompts: int,
    settings: Collecting,
    output: Path,
    batch_size: int,
    writer: object,
) -> int:
    """Appends a row for each prompt that the file has none of yet; returns how many.

    Args:
      model: what is sampled from; call under `jax.set_mesh`.
      rollouts: says whose prompts, how they are answered and what scores the answers.
      length: tokens of a row.
      num_prompts: how many.
      settings: what is collected.
      output: a JSON-lines file.
      batch_size: prompts at a time.
      writer: names the model.

    Raises:
      ConfigError: if the file was begun with other settings.
      RewardError: if the reward fails.
    """
    longest = length - rollouts.max_tokens
    prompts = Prompts(rollouts.tasks, rollouts.weights, settings.seed, longest)
    # A record stands for its prompt; its place tells equal ones apart.
    records = (
        {"key": f"{place}:{record_key(one.record)}", "prompt": one}
        for place, one in enumerate(_prompts(prompts, num_prompts, batch_size))
    )

    def rows(some: Sequence[Record]) -> list[Record]:
        return _rows(model, rollouts, length, some, settings, batch_size)

    return append_made(records, rows, settings, output, batch_size, writer)


def _prompts(prompts: Prompts, count: int, size: int) -> Any:
    for first in range(0, count, size):
        yield from prompts.at(first, min(size, count - first))


def _rows(
    model: Any,
    rollouts: Rollouts,
    length: int,
    some: Sequence[Record],
    settings: Collecting,
    batch_size: int,
) -> list[Record]:
    asked: list[Prompt] = [one["prompt"] for one in some]
    filled = asked + [asked[0]] * (batch_size - len(asked))  # One program for all batches.
    key = jax.random.key(hash64(settings.seed, some[0]["key"]) % 2**32)
    found = sample_groups(
        model, rollouts.codec, [one.ids for one in filled], rollouts.group, key,
        rollouts.policy, rollouts.max_tokens, length,
    )  # fmt: skip
    texts = found.texts[: len(asked)]
    records = [one.record for one in asked for _ in range(rollouts.group)]
    flat = [text for group in texts for text in group]
    scores = score(rollouts.reward, records, flat, rollouts.reward_seconds).total
    return [
        _row(one, prompt, group, of_group, settings)
        for one, prompt, group, of_group in zip(
            some, asked, texts, scores.reshape(len(asked), -1), strict=True
        )
    ]


def _row(
    record: Record, prompt: Prompt, texts: list[str], scores: np.ndarray, settings: Collecting
) -> Record:
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    best, worst = int(order[0]), int(order[-1])
    top = float(scores[best])
    is_kept = settings.at_least is None or top >= settings.at_least
    known = {name: prompt.record[name] for name in ("prompt", "messages") if name in prompt.record}
    return {
        "key": record["key"],
        **known,
        "completions": texts,
        "scores": [None if np.isnan(one) else float(one) for one in scores],
        "answer": texts[best],
        "chosen": texts[best],
        "rejected": texts[worst],
        "kept": "yes" if is_kept and not np.isnan(top) else "no",
    }
