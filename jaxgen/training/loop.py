"""The loop: batches in, steps, rows and checkpoints out; started again, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax

from jaxgen.data.base import Data
from jaxgen.distributed import Agreement
from jaxgen.errors import CheckpointError, InterruptedTrainingError, NotFiniteError
from jaxgen.training.batches import batch_reader, samples_from_state
from jaxgen.training.culprits import find_rows, row_check
from jaxgen.training.divergence import Guard, Skip, data_step
from jaxgen.training.heartbeat import Heartbeat
from jaxgen.training.loading import process_rows, put_batch
from jaxgen.training.memory import check_compiled_memory
from jaxgen.training.metrics import WindowSums
from jaxgen.training.profiling import NO_TRACE, StepTrace
from jaxgen.training.program import Program
from jaxgen.training.recorder import Recorder
from jaxgen.training.replicas import check_repeats, check_replicas
from jaxgen.training.state import TrainState
from jaxgen.training.stopping import SaveTimer, StopSignal
from jaxgen.training.timing import Phase
from jaxgen.training.tracking import Tracker


class Saving(Protocol):
    """Keeps the states of a run, as `runs.checkpoints.Checkpoints` does."""

    def steps(self) -> list[int]:
        """Returns the steps of all whole checkpoints, ascending."""
        ...

    def save(self, step: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing a state and a JSON record; returns once the arrays may be donated."""
        ...

    def wait(self) -> None:
        """Returns when the last save is whole."""
        ...

    def drop_after(self, step: int) -> None:
        """Takes all checkpoints of later steps out of the way."""
        ...

    def restore_newest(self, abstract_state: Any) -> tuple[Any, dict[str, Any]] | None:
        """Reads the newest checkpoint that is whole, and its record; None if there is none."""
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
    rewinds: Sequence[Skip] = (),
    note: Callable[[dict[str, Any]], object] = lambda record: None,
    heartbeat: Heartbeat | None = None,
    at_start: Callable[[int, TrainState], object] | None = None,
    batch_spec: Any = None,
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
      rewinds: batches that were left out when the run went back before.
      note: is given a record of each update that is skipped and of each time that the run goes
        back, "skip" in it; on all processes.
      heartbeat: is told of each phase.
      at_start: called with the step and the state of the checkpoint that training goes on from.
      batch_spec: the shapes of the largest batch, to check a step's memory before it is taken.

    Returns:
      The final state.

    Raises:
      NotFiniteError: when the loss or the gradient is not finite, and `train.divergence` is not
        set or has gone back as often as it may.
      InterruptedTrainingError: when stopped by a signal (`StopSignal`); the state is saved first.
      CorruptionError: when devices hold or compute other bits than they should.
      CheckpointError: when a checkpoint cannot be read, trusted or written.
      ConfigError: when the compiled step needs more memory than there is.
    """
    heartbeat = Heartbeat() if heartbeat is None else heartbeat
    run = _Training(
        program, data, checkpoints, trackers, at_checkpoint, begin, measure, trace, note, heartbeat,
        row_check(program.objective), at_start, batch_spec,
    )  # fmt: skip
    rewinds = list(rewinds)
    with StopSignal() as signal, contextlib.closing(trace):
        while True:
            try:
                return run.train(signal, [*program.train.skip_batches, *rewinds])
            except _Diverged as found:
                rewinds.append(run.go_back(found, len(rewinds), rewinds))


class _Diverged(Exception):
    """Steps, from the first to the last, for which training has to go back."""

    def __init__(self, first: int, last: int):
        super().__init__(first, last)
        self.first, self.last = first, last


@dataclasses.dataclass(frozen=True)
class _Training:
    """The arguments of `fit`."""

    program: Program
    data: Data
    checkpoints: Saving
    trackers: Sequence[Tracker]
    at_checkpoint: Callable[[int, TrainState], object] | None
    begin: Callable[[Program], TrainState]
    measure: Callable[[TrainState], dict[str, float]] | None
    trace: StepTrace
    note: Callable[[dict[str, Any]], object]
    heartbeat: Heartbeat
    row_check: Any
    at_start: Callable[[int, TrainState], object] | None
    batch_spec: Any

    def train(self, signal: StopSignal, skips: Sequence[Skip]) -> TrainState:
        """Trains from the newest checkpoint to the end, or until it has to go back: _Diverged."""
        program, checkpoints, trace = self.program, self.checkpoints, self.trace
        heartbeat, compiled = self.heartbeat, set[int]()
        execution, total = program.execution, program.total_steps
        step_of = functools.cache(program.train_step)
        if self.batch_spec is not None and checkpoints.steps()[-1:] != [total]:
            heartbeat.enter("compiling")
            most = program.accumulation_at(total - 1)
            check_compiled_memory(program, step_of(most), self.batch_spec, most)
        state, start, window, guard = self._newest()
        heartbeat.clock.go_on_from(start)
        if self.at_start is not None and 0 < start < total:
            heartbeat.enter("evaluation", start)
            self.at_start(start, state)
        heartbeat.enter("compiling", start)
        recorder = Recorder(program, self.trackers, window, guard, heartbeat.clock)
        rows = process_rows(program.mesh, execution.rules, program.microbatch_size)
        batch_of = batch_reader(self.data, start, skips, rows, execution.data_workers)
        waits_in: Phase = "rollout" if samples_from_state(self.data) else "data"
        agreement, timer = Agreement(), SaveTimer(execution.checkpoint_minutes)
        recent: dict[int, Any] = {}
        for step in range(start + 1, total + 1):
            accumulation = program.accumulation_at(step - 1)
            train_step = step_of(accumulation)
            with trace.step(step, state):
                heartbeat.enter(waits_in)
                batch = batch_of(step - 1, state)
                batch = put_batch(batch, program.mesh, execution.rules, accumulation, rows)
                heartbeat.enter("step" if accumulation in compiled else "compiling")
                if _is_time(step, program.repeat_step_every):
                    state, metrics = check_repeats(train_step, state, batch, step)
                else:
                    state, metrics = train_step(state, batch)
            compiled.add(accumulation)
            heartbeat.enter("step")
            trace.end(step, metrics, functools.partial(_text_of, train_step, state, batch))
            if guard is not None:
                recent = {step - 1: recent.get(step - 1), step: batch}
            recorder.add(step, metrics)
            heartbeat.enter("step", step - 1)
            last = step == total
            stopped_by = agreement.reason(step, signal.received)
            if step % program.log_every == 0 or last:
                further = functools.partial(self._measured, step, state)
                recorder.write_row(step, further)
            saves = program.saves_at(step) or timer.is_due(step)
            if _is_time(step, program.compare_replicas_every):
                check_replicas(state, step)
            if saves or stopped_by:
                recorder.settle()
            self._tell_skipped(recorder, recent, state, skips)
            if guard is not None and guard.bad_steps is not None:
                raise _Diverged(*guard.bad_steps)
            if saves or stopped_by:
                record = {"step": step, "window": recorder.window.to_record()}
                record |= {} if guard is None else {"guard": guard.to_record()}
                if samples_from_state(self.data):
                    sampled: Any = self.data
                    record["data"] = sampled.to_record(data_step(step, skips))
                heartbeat.enter("checkpoint", step)
                checkpoints.save(step, state, record)
                timer.saved()
                if self.at_checkpoint is not None and not stopped_by:
                    heartbeat.enter("evaluation")
                    self.at_checkpoint(step, state)
                heartbeat.enter("step")
            if stopped_by and not last:
                heartbeat.enter("checkpoint")
                checkpoints.wait()
                raise InterruptedTrainingError(
                    f"stopped at step {step} of {total} by {stopped_by}; the state is "
                    "saved: give the same command to go on."
                )
        heartbeat.enter("checkpoint")
        checkpoints.wait()
        return state

    def go_back(self, found: _Diverged, num_before: int, skips: Sequence[Skip]) -> Skip:
        """Takes the checkpoints after the divergence away; returns what is left out from now on.

        Raises:
          NotFiniteError: if the run has gone back as often as it may.
          ConfigError: if the batches that would take the places have another size.
          DataError: if the data ends before.
        """
        train = self.program.train
        settings = train.divergence
        assert settings is not None, "nothing else watches for it"
        what = f"the loss diverged in steps {found.first} to {found.last}"
        if num_before >= settings.max_rewinds:
            raise NotFiniteError(
                f"{what}, after the run went back {num_before} times "
                f"(divergence.max_rewinds={settings.max_rewinds}); lower the schedule's peak or "
                "train.clip_norm in a new --run_dir. Earlier checkpoints are whole."
            )
        with contextlib.suppress(CheckpointError):
            self.checkpoints.wait()  # Which ones there are must not be a matter of time.
        latest = found.first - 1 - settings.rewind_steps
        to = max((step for step in self.checkpoints.steps() if step <= latest), default=0)
        skip = Skip(to, found.last - to + settings.skip_steps)
        train.check_may_skip(to)
        left_out = sum(one.count for one in [*train.skip_batches, *skips, skip])
        total = train.batch_sizes.rows_before(self.program.total_steps)
        self.data.check_lasts(total + left_out * train.batch_size)
        self.checkpoints.drop_after(to)
        self.note({"event": "rewind", "steps": [found.first, found.last], "skip": [to, skip.count]})
        return skip

    def _tell_skipped(
        self, recorder: Recorder, recent: dict[int, Any], state: TrainState, skips: Sequence[Skip]
    ) -> None:
        train = self.program.train
        bad = None if recorder.guard is None else recorder.guard.bad_steps
        for step, where in recorder.skipped:
            if bad is not None and step > bad[1]:
                continue  # Whether it was seen at all before the run goes back is chance.
            key = jax.random.fold_in(jax.random.key(train.seed), step - 1)
            accumulation = self.program.accumulation_at(step - 1)
            rows = find_rows(self.row_check, state.model, recent[step], accumulation, key, step - 1)
            self.note({
                "event": "skipped update", "step": step, "where": where, "rows": rows,
                "batch": data_step(step - 1, skips),
            })  # fmt: skip
        recorder.skipped.clear()

    def _measured(self, step: int, state: TrainState) -> dict[str, float]:
        """Returns the further columns of a row: none but in the first of each `heldout_every`."""
        every, log_every = self.program.heldout_every, self.program.log_every
        if self.measure is None or not every or step // every == (step - log_every) // every:
            return {}
        self.heartbeat.enter("evaluation")
        found = self.measure(state)
        self.heartbeat.enter("step")
        return found

    def _newest(self) -> tuple[TrainState, int, WindowSums, Guard | None]:
        """Returns the state to go on from, its step, the sums since the last row, and the guard."""
        settings = self.program.train.divergence
        found = self.checkpoints.restore_newest(self.program.abstract_state())
        if samples_from_state(self.data):
            sampled: Any = self.data
            sampled.go_on_from({} if found is None else found[1].get("data", {}))
        if found is None:
            state = self.begin(self.program)
            return state, 0, WindowSums(), None if settings is None else Guard(settings)
        state, record = found
        window = WindowSums.from_record(record["window"], self.data.task_names)
        guard = None if settings is None else Guard(settings, record.get("guard"))
        return state, record["step"], window, guard


def _is_time(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _text_of(train_step: Any, state: TrainState, batch: Any) -> str | None:
    """Returns the text of the compiled step, which the cache of programs mostly has."""
    return train_step.lower(state, batch).compile().as_text()
