"""The log-probabilities of all completions of comparisons under a frozen reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxgen.data.comparison_rows import CompletionRow
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.protocols import Split
from jaxgen.distributed import fetch
from jaxgen.errors import NoRecordsError
from jaxgen.objectives.log_probabilities import group_log_probabilities
from jaxgen.training.loading import put_batch

SPLITS: tuple[Split, ...] = ("train", "heldout")


def reference_log_probabilities(
    model: Any, data: Comparisons, length: int, batch_size: int
) -> Iterator[tuple[CompletionRow, np.ndarray]]:
    """Yields each completion of both splits with the log-probabilities of its tokens.

    Call under `jax.set_mesh`.

    Args:
      model: the reference.
      data: the comparisons, without a reference of their own.
      length: tokens of a row.
      batch_size: prompts at a time.
    """
    score = jax.jit(group_log_probabilities)
    for split in SPLITS:
        try:
            opened = data.open(batch_size=batch_size, length=length, seed=0, split=split)
        except NoRecordsError:
            continue  # Such a split is asked for nothing later, either.
        for start in range(0, opened.num_records, batch_size):
            records = opened.all_records(start, min(start + batch_size, opened.num_records))
            # Rows that fill the last batch repeat its first.
            filled = records + records[:1] * (batch_size - len(records))
            batch = opened.batch_of(filled, np.zeros(batch_size, np.int32))
            placed = put_batch(batch, jax.sharding.get_mesh(), model.layout.rules)
            found = fetch(score(model, placed))
            for place, record in enumerate(records):
                for number, row in enumerate(record.rows):
                    is_target = batch.completion_weights[place, number] > 0
                    yield row, found[place, number][is_target]
