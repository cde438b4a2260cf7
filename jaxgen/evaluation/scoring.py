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
from jaxgen.data.packing import pack_row
from jaxgen.data.sources import Record
from jaxgen.data.tasks import PromptAnswer, Task
from jaxgen.errors import DataError
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.cross_entropy import TokenLosses, cross_entropy
from jaxgen.training.loading import put_batch

Row = dict[str, Any]


def score_instances(
    model: Transformer, task: Task, records: Sequence[Record], batch_size: int, length: int
) -> list[Row]:
    """One row for each record of a task with answers.

    Args:
      model: the parameters; call under `jax.set_mesh`.
      task: whose features say what the answers are.
      records: the instances.
      batch_size: instances at a time.
      length: the most tokens an instance may have.

    Returns:
      Rows with "task", "instance" (its key, or its number), "exact_match" (0 or 1),
      "token_accuracy", "log_probability" (of the whole answer, in nats) and "answer_tokens". The
      end token is part of the answer.

    Raises:
      DataError: if an instance is longer than `length`.
    """
    rows = []
    examples = task.encode(records)
    longest = max(len(example.inputs) for example in examples)
    if longest > length:
        raise DataError(
            f"task {task.name}: a held-out example has {longest} tokens, more than "
            f"train.length={length}; set it to {longest} or more."
        )
    # One shape for every task that fits it, so that few programs are compiled.
    width = min(length, -(-longest // 32) * 32)
    for first in range(0, len(examples), batch_size):
        chosen = examples[first : first + batch_size]
        parts = [
            [(e.inputs, e.targets, answer_weights(task, e.weights, record))]
            for e, record in zip(chosen, records[first:], strict=False)
        ]
        parts += [[]] * (batch_size - len(chosen))
        packed = [pack_row(part, width, task.codec.pad_id) for part in parts]
        arrays: dict[str, Any] = {
            name: np.stack([row[name] for row in packed]) for name in packed[0]
        }
        batch = Batch(**arrays, task_ids=np.zeros_like(arrays["tokens"]))
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


def answer_weights(task: Task, weights: np.ndarray, record: Record) -> np.ndarray:
    """Weights of 1 on the answers and the end token alone, whatever the task learns."""
    features = task.features
    if not (isinstance(features, PromptAnswer) and features.loss_on_prompt):
        return weights
    marks = [
        np.full(len(task.codec.encode(text)), is_answer, np.float32)
        for turn in features.turns(record)
        for is_answer, text in enumerate(turn)
    ]
    return np.concatenate([*marks, np.ones(1, np.float32)])


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
