"""What the processes of a round load with --import: an objective, and ears for the harness.

The objective is next-token prediction that also reports which rows it was given, and whose gradient
is not a number where a row is marked.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from chaos_faults import orders
from jaxgen.batch import Batch
from jaxgen.data.loading import MixtureData
from jaxgen.objectives.base import Loss, Sum
from jaxgen.objectives.next_token import NextToken
from jaxgen.training.heartbeat import Heartbeat

MARK = 2**20
"""The segment of a row whose gradient is not a number."""


@dataclasses.dataclass(frozen=True)
class Witness:
    """Next-token prediction that reports a digest of the rows it trains on.

    Attributes:
      loss: what is minimised.
    """

    loss: NextToken = NextToken()

    def __call__(self, model: Any, batch: Batch, key: jax.Array | None = None) -> Loss:
        """Returns the loss, with the sum of the rows' digests in its metrics."""
        loss = self.loss(model, batch, key)
        is_marked = jnp.any(batch.segment_ids == MARK)
        rows = jnp.float32(batch.tokens.shape[0])
        seen = {"rows_digest": Sum(jnp.sum(digests_of(batch).astype(jnp.float32)), rows)}
        total = _with_gradient(loss.total, jnp.where(is_marked, jnp.nan, 1.0))
        return dataclasses.replace(loss, total=total, metrics={**loss.metrics, **seen})


def digests_of(batch: Any) -> Any:
    """Returns a digest below 2^18 of each row, so that a float32 holds the sum of 64 exactly."""
    whole = jnp.uint32 if isinstance(batch.tokens, jax.Array) else np.uint32
    total: Any = 0
    for number, array in enumerate((batch.tokens, batch.targets, batch.loss_weights > 0)):
        places = np.arange(1, array.shape[1] + 1, dtype=np.uint32)
        weights = places * np.uint32(2654435761 + 2 * number) | np.uint32(1)
        total = total + ((array.astype(whole) + whole(1)) * weights).sum(axis=1, dtype=whole)
    total = (total ^ (total >> 15)) * whole(0x85EBCA6B)
    return total >> 14


@jax.custom_vjp
def _with_gradient(total: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns the total as it is; its gradient is multiplied by the factor."""
    del factor
    return total


_with_gradient.defvjp(
    lambda total, factor: (total, factor), lambda factor, given: (given * factor, None)
)


def _keep_programs(process: int) -> None:
    """Lets each process keep its compiled programs, so that a restart takes seconds.

    JAX writes those of process 0 alone, which on CPU no other process can use.
    """
    from jax._src import compiler  # There is no public way.

    state = types.SimpleNamespace(process_id=0)
    written = compiler._cache_write
    known = written.__globals__ | {"distributed": types.SimpleNamespace(global_state=state)}
    compiler._cache_write = types.FunctionType(written.__code__, known, written.__name__)
    folder = f"{os.environ['JAX_COMPILATION_CACHE_DIR']}-{process}"
    jax.config.update("jax_compilation_cache_dir", folder)


def _listen(folder: pathlib.Path) -> None:
    """Tells the harness each phase of this process, and does what it asks for."""
    process = int(os.environ["JAX_PROCESS_ID"])
    late = folder / f"late-{process}"
    if seconds := orders.read_numbers(late):
        late.unlink()
        time.sleep(seconds[0])
    _keep_programs(process)
    observer, enter = orders.Observer(folder, process), Heartbeat.enter
    iterate = MixtureData.iterate

    def enter_and_tell(self: Heartbeat, phase: Any, step: int | None = None) -> None:
        enter(self, phase, step)
        observer.tell(phase, self.step)

    def iterate_and_mark(self: MixtureData, first_step: int = 0, **options: Any) -> Iterator[Batch]:
        for number, batch in enumerate(iterate(self, first_step, **options), first_step):
            if number in orders.read_numbers(folder / "poisoned"):
                batch.segment_ids[0] = MARK
            yield batch

    Heartbeat.enter = enter_and_tell
    MixtureData.iterate = iterate_and_mark


if orders.FOLDER in os.environ and "JAX_PROCESS_ID" in os.environ:
    _listen(pathlib.Path(os.environ[orders.FOLDER]))
