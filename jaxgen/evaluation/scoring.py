"""Scoring answers: several metrics of the same prediction, instance by instance.

One forward pass over prompt and right answer gives all of them. The greedy continuation of the
prompt equals the answer exactly where every token of the answer is the most likely one given those
before it, so an exact match needs no decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.batch import Batch
from jaxgen.data.loading import as_batch, stack
from jaxgen.data.packing import Layout, check_longest, pack_row
from jaxgen.data.parts import ANSWER, LEARNT, Example
from jaxgen.data.segments import example_segment
from jaxgen.data.sources import Record
from jaxgen.data.tasks import Task
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.cross_entropy import TokenLosses, cross_entropy
from jaxgen.training.loading import put_batch

Row = dict[str, Any]


def score_instances(
    model: Transformer,
    task: Task,
    records: Sequence[Record],
    batch_size: int,
    length: int,
    source_length: int | None = None,
) -> list[Row]:
    """One row for each record of a task with answers.

    Args:
      model: the parameters; call under `jax.set_mesh`.
      task: whose features say what the answers are.
      records: the instances.
      batch_size: instances at a time.
      length: the most tokens an instance may have.
      source_length: the most tokens of its prompt, in a model with an encoder; None without.

    Returns:
      Rows with "task", "instance" (its key, or its number), "exact_match" (0 or 1),
      "token_accuracy", "log_probability" (of the whole answer, in nats) and "answer_tokens". The
      end token is part of the answer.

    Raises:
      DataError: if an instance is longer than `length`.
    """
    rows = []
    segments = [
        example_segment(only_answers(example), task.codec, source_length is not None)
        for example in task.encode(records)
    ]
    sizes = (np.array([len(s.tokens) for s in segments]),
             np.array([0 if s.source is None else len(s.source) for s in segments]))  # fmt: skip
    check_longest(task.name, sizes, Layout(length, source_length))
    # One shape for every task that fits it, so that few programs are compiled.
    width = min(length, -(-int(sizes[0].max()) // 32) * 32)
    layout = Layout(width, source_length, task.has_blocks)
    for first in range(0, len(segments), batch_size):
        chosen = [[segment] for segment in segments[first : first + batch_size]]
        parts = chosen + [[]] * (batch_size - len(chosen))
        arrays = stack([pack_row(part, layout, task.codec.pad_id) for part in parts])
        batch = as_batch(arrays | {"task_ids": np.zeros_like(arrays["tokens"])})
        nll, correct = token_scores(model, put_batch(batch, jax.sharding.get_mesh(), model.rules))
        for index in range(len(chosen)):
            learnt = batch.loss_weights[index] > 0
            record = records[first + index]
            right = np.asarray(correct)[index][learnt]
            rows.append(
                {
                    "task": task.name,
                    "instance": str(record.get("key", first + index)),
                    "exact_match": int(right.all()),
                    "token_accuracy": float(right.mean()),
                    "log_probability": -float(np.asarray(nll, np.float64)[index][learnt].sum()),
                    "answer_tokens": int(learnt.sum()),
                }
            )
    return rows


def only_answers(example: Example) -> Example:
    """The example with loss on its answers and the end token alone, whatever the task learns."""
    assert example.flags is not None, "examples with answers have flags"
    is_answer = example.flags & ANSWER > 0
    return Example(example.ids, np.where(is_answer, LEARNT | ANSWER, 0).astype(np.uint8))


@jax.jit
def token_scores(model: Transformer, batch: Batch) -> TokenLosses:
    """Negative log-likelihood and correctness of every position, [batch, length]."""
    hidden = model(batch).hidden
    return cross_entropy(
        hidden,
        model.unembedding_table(hidden.dtype),
        batch.targets,
        batch.loss_weights,
        bias=model.unembedding_bias(),
        rules=model.rules,
        soft_cap=model.config.logit_soft_cap,
    )[1]


def summarise(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """The mean of each metric over the rows, and "num_examples"."""
    means: dict[str, Any] = {name: float(np.mean([row[name] for row in rows])) for name in metrics}
    return means | {"num_examples": len(rows)}
