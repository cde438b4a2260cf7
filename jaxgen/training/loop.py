"""The loop: batches in, steps, rows and checkpoints out; started again, it goes on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxgen.data.base import Data
from jaxgen.distributed import Agreement
from jaxgen.errors import InterruptedTrainingError
from jaxgen.training.loading import process_rows, put_batch
from jaxgen.training.metrics import WindowSums
from jaxgen.training.profiling import NO_TRACE, StepTrace
from jaxgen.training.program import Program
from jaxgen.training.recorder import Recorder
from jaxgen.training.state import TrainState
from jaxgen.training.stopping import StopSignal
from jaxgen.training.tracking import Tracker


class Saving(Protocol):
    """Keeps the states of a run, as `runs.checkpoints.Checkpoints` does."""

    def latest_step(self) -> int | None:
        """Returns the newest whole checkpoint's step; None if there is none."""
        ...

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing a state and a JSON record; returns once the arrays may be donated."""
        ...

    def wait(self) -> None:
        """Returns when the last save is whole."""
        ...

    def restore(self, abstract_state: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint, the newest by default, and its record."""
        ...


def fit(
    program: Program,
    data: Data,
    checkpoints: Saving,
    trackers: Sequence[Tracker],
    at_checkpoint: Callable[[int, TrainState], object] | None = None,
    begin: Callable[[Program], TrainState] = Program.fresh_state,
    measure: Callable[[TrainState], dict[str, float]] | None = None,
    trace: StepTrace = NO_TRACE,
) -> TrainState:
    """Trains to the end, from the newest checkpoint if there is one.

    Call under `jax.set_mesh(program.mesh)`.

    Args:
      program: what is trained.
      data: what it is trained on, opened by `open_data`.
      checkpoints: where training goes on from, and what it leaves.
      trackers: receive a row each `program.log_every` steps.
      at_checkpoint: called with each checkpoint's step and state, while it is written.
      begin: makes the state before the first step, where there is no checkpoint.
      measure: returns columns of the first row of each `program.heldout_every` steps, such as
        held-out losses.
      trace: records some of the steps.

    Returns:
      The final state.

    Raises:
      NotFiniteError: when the loss or the gradient is not finite.
      InterruptedTrainingError: when stopped by SIGINT or SIGTERM; the state is saved first.
      CheckpointError: when a checkpoint cannot be read, trusted or written.
    """
    execution, total = program.execution, program.total_steps
    step_of = functools.cache(program.train_step)

    state, start, window = _newest(program, checkpoints, begin, data.task_names)
    recorder = Recorder(program, trackers, window)
    rows = process_rows(program.mesh, execution.rules, program.microbatch_size)
    batches = data.iterate(start, rows=rows, num_workers=execution.data_workers)
    with StopSignal() as signal, contextlib.closing(trace):
        agreement = Agreement()
        for step in range(start + 1, total + 1):
            accumulation = program.accumulation_at(step - 1)
            train_step = step_of(accumulation)
            with trace.step(step, state):
                batch = put_batch(next(batches), program.mesh, execution.rules, accumulation, rows)
                state, metrics = train_step(state, batch)
            trace.end(step, metrics, functools.partial(_text_of, train_step, state, batch))
            recorder.add(step, metrics)
            last = step == total
            stopped_by = agreement.reason(step, signal.received)
            if step % program.log_every == 0 or last:
                further = functools.partial(_measured, program, step, measure, state)
                recorder.write_row(step, further)
            if step % program.checkpoint_every == 0 or last or stopped_by:
                recorder.settle()
                record = {"step": step, "window": recorder.window.to_record()}
                checkpoints.save(step, state, record)
                if at_checkpoint is not None and not stopped_by:
                    at_checkpoint(step, state)
            if stopped_by and not last:
                checkpoints.wait()
                raise InterruptedTrainingError(
                    f"stopped at step {step} of {total} by {stopped_by}; the state is "
                    "saved: give the same command to go on."
                )
    checkpoints.wait()
    return state


def _text_of(train_step: Any, state: TrainState, batch: Any) -> str | None:
    """Returns the text of the compiled step, which the cache of programs mostly has."""
    return train_step.lower(state, batch).compile().as_text()


def _measured(
    program: Program,
    step: int,
    measure: Callable[[TrainState], dict[str, float]] | None,
    state: TrainState,
) -> dict[str, float]:
    """Returns the further columns of a row: none but in the first of each `heldout_every` steps."""
    every = program.heldout_every
    if measure is None or not every or step // every == (step - program.log_every) // every:
        return {}
    return measure(state)


def _newest(
    program: Program,
    checkpoints: Saving,
    begin: Callable[[Program], TrainState],
    task_names: tuple[str, ...],
) -> tuple[TrainState, int, WindowSums]:
    if checkpoints.latest_step() is None:
        return begin(program), 0, WindowSums()
    state, record = checkpoints.restore(program.abstract_state())
    return state, record["step"], WindowSums.from_record(record["window"], task_names)
