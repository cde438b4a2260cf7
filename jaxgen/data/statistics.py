"""Statistics of a mixture: shares, lengths, waste, duplicates, repeats."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from jaxgen.data.loading import MixtureData
from jaxgen.data.mixtures import Mixture
from jaxgen.data.protocols import Epoch
from jaxgen.data.rows import open_store
from jaxgen.data.showing import lines, show
from jaxgen.data.tasks import Task
from jaxgen.data.token_store import TokenStore
from jaxgen.errors import DataError

SAMPLED_ROWS = 1024
SAMPLED_DOCUMENTS = 500
HASHED_DOCUMENTS = 2_000_000


@dataclasses.dataclass(frozen=True)
class ReadingPlan:
    """The way in which a run reads a mixture.

    Attributes:
      batch_size: rows of a global batch.
      length: tokens of a row.
      source_length: tokens of the encoder's row; None without an encoder.
      num_rows: rows of the whole run.
      seed: the seed of the order.
    """

    batch_size: int
    length: int
    source_length: int | None
    num_rows: int
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TaskStatistics:
    """The statistics of one task.

    Attributes:
      task: the task.
      share_of_rows: the task's share of the run's rows.
      share_of_tokens: the task's share of the run's tokens, padding left out.
      share_in_loss: share of the task's tokens that are targets of the loss.
      share_used: share of the task's positions that is not padding.
      rows_per_epoch: rows after which every document has been seen once.
      epochs: how often each document is seen in the run.
      documents: documents of the training split; None where they are made on the spot.
      heldout_documents: documents of the held-out split; None likewise.
      lengths: [documents or a sample] tokens.
      bytes_per_token: mean bytes of a token in a sample of the text.
      duplicates: documents whose tokens equal an earlier one's; None where made on the spot.
      shown: some records, each with the model's view of it.
    """

    task: Task
    share_of_rows: float
    share_of_tokens: float
    share_in_loss: float
    share_used: float
    rows_per_epoch: int
    epochs: float
    documents: int | None
    heldout_documents: int | None
    lengths: np.ndarray
    bytes_per_token: float
    duplicates: int | None
    shown: list[tuple[str, str]]


def describe(mixture: Mixture, plan: ReadingPlan, num_shown: int = 2) -> list[TaskStatistics]:
    """Returns the statistics of every task of a mixture.

    Shares of tokens are estimated from `SAMPLED_ROWS` rows spread over the run.

    Raises:
      DataError: if a task cannot be read, or the mixture ends before the run.
    """
    data = mixture.open(
        batch_size=plan.batch_size,
        length=plan.length,
        seed=plan.seed,
        source_length=plan.source_length,
    )
    data.check_lasts(plan.num_rows)
    used, in_loss, positions = _sampled(data, plan)
    shares, epochs = data.shares_seen(plan.num_rows), data.epochs_seen(plan.num_rows)
    statistics = []
    for number, task in enumerate(mixture.every_task):
        store = None if task.is_indexed else _first_epoch(task, plan)
        lengths, bytes_per_token = _lengths(task, store)
        statistics.append(
            TaskStatistics(
                task,
                shares[task.name],
                used[number] / used.sum(),
                in_loss[number] / max(used[number], 1),
                used[number] / max(positions[number], 1),
                data.rows_per_epoch[task.name],
                epochs[task.name],
                None if store is None else len(store.lengths),
                _heldout(task),
                lengths,
                bytes_per_token,
                None if store is None else _duplicates(store),
                list(_shown(task, plan, num_shown)),
            )
        )
    return statistics


def _sampled(data: MixtureData, plan: ReadingPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts tokens, tokens in the loss, and positions by task; the encoder's among them."""
    count = len(data.task_names)
    used, in_loss, positions = np.zeros((3, count))
    steps = max(1, plan.num_rows // plan.batch_size)
    batches = min(steps, -(-SAMPLED_ROWS // plan.batch_size))
    for step in np.linspace(0, steps - 1, batches).astype(int):
        batch = data.batch(int(step))
        for row, task in enumerate(batch.task_ids[:, 0]):
            segments = [batch.segment_ids[row]]
            if batch.encoder is not None:
                segments.append(batch.encoder.segment_ids[row])
            used[task] += sum(int((ids > 0).sum()) for ids in segments)
            positions[task] += sum(len(ids) for ids in segments)
            in_loss[task] += int((batch.loss_weights[row] > 0).sum())
    return used, in_loss, positions


def _first_epoch(task: Task, plan: ReadingPlan) -> TokenStore:
    has_source = plan.source_length is not None
    epoch = Epoch(plan.seed, task.name, 0) if task.draws else None
    return open_store(task, "train", has_source, epoch)


def _heldout(task: Task) -> int | None:
    if task.is_indexed:
        return None
    try:
        return len(open_store(task, "heldout").lengths)
    except DataError:
        return 0  # A source of which nothing is held out.


def _lengths(task: Task, store: TokenStore | None) -> tuple[np.ndarray, float]:
    if store is None:
        records = task.records_by_index("train").__getitems__(range(SAMPLED_DOCUMENTS))
        examples = task.encode(task.processed(records))
        lengths = np.array([example.num_targets for example in examples])
    else:
        lengths = store.lengths + 1
        chosen = np.linspace(0, len(lengths) - 1, min(len(lengths), SAMPLED_DOCUMENTS))
        examples = [store.example(int(index)) for index in chosen]
    size = sum(len(task.codec.decode(example.ids).encode()) for example in examples)
    return lengths, size / max(1, sum(len(example.ids) for example in examples))


def _duplicates(store: TokenStore) -> int:
    count = min(len(store.lengths), HASHED_DOCUMENTS)
    seen = Counter(
        hashlib.blake2b(store.example(index).ids.tobytes(), digest_size=8).digest()
        for index in range(count)
    )
    return count - len(seen)


def _shown(task: Task, plan: ReadingPlan, count: int) -> Iterator[tuple[str, str]]:
    has_source = plan.source_length is not None
    for one in show(task, count, plan.seed, 80, has_source):
        text = "\n\n".join("\n".join(lines(segment, task.codec)) for segment in one.segments)
        yield one.short(), text or "left out by the preprocessors"
