"""A run trains to its end, is evaluated and leaves all in a directory; called again, it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxgen import distributed
from jaxgen.configuration import (
    describe_imports,
    difference,
    fingerprint,
    load_recorded,
    to_gin,
)
from jaxgen.data.base import Data, keep_codecs
from jaxgen.data.tasks import sources_of
from jaxgen.errors import (
    CheckpointError,
    EarlyStoppingError,
    InterruptedTrainingError,
    JaxgenError,
)
from jaxgen.evaluation.evaluate import check_heldout, evaluate
from jaxgen.evaluation.files import EvaluationFiles
from jaxgen.evaluation.heldout import HeldoutLosses
from jaxgen.redaction import redacted
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.data_record import check_data
from jaxgen.runs.events import keep_event
from jaxgen.runs.history import append_start, read_rewinds
from jaxgen.runs.mirror.again import MirrorCopies
from jaxgen.runs.mirror.fetching import fetch_from_mirror
from jaxgen.runs.mirror.uploading import mirroring
from jaxgen.runs.provenance import environment, imports_record, provenance, started_in
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.runs.state_precision import saved_otherwise
from jaxgen.runs.warm_start import open_parents
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.batches import samples_from_state
from jaxgen.training.divergence import Skip
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.heartbeat import Heartbeat
from jaxgen.training.loading import open_data
from jaxgen.training.loop import fit
from jaxgen.training.memory import check_disk, check_memory
from jaxgen.training.profiling import StepTrace
from jaxgen.training.program import Program, build_program
from jaxgen.training.state import TrainState
from jaxgen.training.timing import PhaseClock
from jaxgen.training.tracker_thread import TrackerThread
from jaxgen.training.tracking import MetricsFile, Tracker, progress


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
      directory: where it is.
      record: what run.json says.
    """

    directory: RunDirectory
    record: dict[str, Any]


def run(
    config: RunConfig,
    run_dir: str | os.PathLike,
    execution: ExecutionConfig | None = None,
    devices: Sequence[Any] | None = None,
    show_progress: bool = True,
    lock_timeout: float = 0,
    more_trackers: Sequence[Tracker] = (),
) -> RunRecord:
    """Trains and evaluates a configuration in a directory; a finished run is only read.

    Args:
      config: what the run is; a directory refuses another one.
      run_dir: its directory, made if it is not there.
      execution: how it is executed, which may differ from the last time; `ExecutionConfig()` by
        default.
      devices: those of the mesh; all by default.
      show_progress: whether to print progress.
      lock_timeout: seconds to wait for another process to leave the directory.
      more_trackers: receive the rows too; an error of theirs ends the training.

    Raises:
      JaxgenError: for whatever a person can mend; what is on disk stays whole.
    """
    execution = ExecutionConfig() if execution is None else execution
    execution.microbatch_size(config.train)  # Refused before anything is written.
    directory = RunDirectory(run_dir)
    distributed.on_main(directory.prepare)
    with (
        distributed.held_by_main(lambda: directory.lock(lock_timeout)),
        contextlib.ExitStack() as stack,
    ):
        distributed.check_same("configuration", fingerprint(config))
        fetched, mirror = [], execution.mirror
        if mirror is not None:
            keep = execution.keep_checkpoints
            fetched = distributed.on_main(fetch_from_mirror, mirror, directory, config, keep)
        before = distributed.on_main(_enter, directory, config)
        note = functools.partial(keep_event, directory.history_file)
        for event in fetched:
            note(event)
        if before.get("finished"):
            stack.enter_context(mirroring(mirror, directory, None))
            return RunRecord(directory, distributed.on_main(directory.read_finished))
        mesh = make_mesh(execution.mesh, devices)
        program = build_program(
            config.model, config.train, mesh, execution, config.objective,
            rows_per_example=config.rows_per_example,
        )  # fmt: skip
        check_memory(program)
        start = environment(program)
        record = {"name": config.name, "version": config.version, "finished": False}
        trace = StepTrace(execution.profile_steps, directory.path, program.total_steps)
        record |= {"fingerprint": fingerprint(config)} | provenance(config, program) | start
        record["first_started"] = before.get("first_started", record["started"])
        record["started_in"] = before.get("started_in", started_in(directory.path))
        record |= imports_record(describe_imports(config), before.get("imports", []))
        has_begun = distributed.on_main(directory.has_begun)
        if not has_begun:  # One that goes on may wait for a disk that is full for now.
            distributed.on_main(check_disk, program, directory.path)
        # A run that has begun needs its parents no more, wherever they or it were moved to.
        parents = None if has_begun else open_parents(config, directory, program)
        if parents is not None:
            record |= parents.describe()
            distributed.on_main(parents.hand_on, directory)
        origins = ("initialized_from", "initialized_parts", "extended_from")
        origins = origins if parents is None else ()
        record |= {name: before[name] for name in origins if name in before}
        sources, accepts = sources_of(config.mixture), execution.accept_changed_data
        changes = distributed.on_main(
            check_data, directory.data_file, sources, not has_begun, accepts
        )
        train = config.train
        heldout = HeldoutLosses(
            config.objective, config.mixture, config.evaluation, train.length, train.source_length
        )
        with jax.set_mesh(mesh):
            check_heldout(heldout, config.model, execution.rules)
        data = open_data(config.mixture, config.train, program.total_steps)
        num_rows = config.train.batch_sizes.rows_before(program.total_steps)
        record |= data.seen(num_rows)
        distributed.on_main(directory.write_record, record)
        uploads = stack.enter_context(mirroring(mirror, directory, program.keep_every))
        trackers: list[Tracker] = [*more_trackers]
        if distributed.is_main():
            trackers.insert(0, MetricsFile(directory.metrics_file))
            trackers += [
                TrackerThread(type(one).__name__, functools.partial(one.open, directory.path))
                for one in execution.trackers
            ]
            trackers += [] if uploads is None else [uploads]
            if show_progress:
                bar = functools.partial(progress, config.name, program.total_steps)
                trackers.append(TrackerThread("progress", bar))

        def scored(state: TrainState) -> Any:
            return state.averaged_model if config.evaluation.ema else state.model

        files = EvaluationFiles()

        def score(step: int, state: TrainState) -> dict[str, Any]:
            return evaluate(
                scored(state),
                config.objective,
                config.mixture,
                config.evaluation,
                config.train.length,
                directory.evaluation_file(step),
                config.train.source_length,
                heldout,
                files.write,
            )

        def score_missing(step: int, state: TrainState) -> None:
            """Scores a checkpoint, if the process that wrote it ended before it did so."""
            if program.saves_at(step) and not distributed.on_main(
                directory.evaluation_file(step).exists
            ):
                score(step, state)

        def measure(state: TrainState) -> dict[str, float]:
            return {
                f"heldout_{name}/{task}": found[name]
                for task, found in heldout(scored(state)).items()
                for name in ("loss", "bits_per_byte")
                if found.get(name) is not None
            }

        scores = config.evaluation.at_checkpoints
        at_checkpoint, at_start = (score, score_missing) if scores else (None, None)
        try:
            heartbeat = _heartbeat(directory, record["first_started"], execution)
            with (
                heartbeat,
                jax.set_mesh(mesh),
                _open_checkpoints(directory, program, record, note) as checkpoints,
            ):
                step = checkpoints.latest_step() or 0
                distributed.on_main(
                    append_start, directory.history_file, program, step, start, changes
                )
                rewinds = distributed.on_main(read_rewinds, directory.history_file)
                begin = Program.fresh_state if parents is None else parents.initial_state
                state = fit(
                    program, data, checkpoints, trackers, at_checkpoint, begin, measure, trace,
                    [Skip(after, count) for after, count in rewinds], note, heartbeat,
                    at_start, _batch_spec(config, data),
                )  # fmt: skip
                heartbeat.enter("evaluation", program.total_steps)
                summary = score(program.total_steps, state)
                distributed.on_main(files.close)
        except (InterruptedTrainingError, EarlyStoppingError):
            raise
        except JaxgenError as error:
            if distributed.is_main():
                with contextlib.suppress(CheckpointError):  # The disk may be what failed.
                    directory.write_record(record | {"failed": redacted(str(error))})
            raise
        finally:
            with contextlib.ExitStack() as closing:
                for tracker in trackers:
                    closing.callback(tracker.close)
        record |= {"finished": True, "evaluation": summary}
        distributed.on_main(directory.write_record, record)
        return RunRecord(directory, record)


def _batch_spec(config: RunConfig, data: Data) -> Any:
    """Returns the shapes of a run's batches; None of data that is sampled, which tell their own."""
    if samples_from_state(data):
        return None
    train = config.train
    return config.mixture.batch_spec(
        batch_size=train.batch_size, length=train.length, source_length=train.source_length
    )


def _open_checkpoints(
    directory: RunDirectory,
    program: Program,
    record: dict[str, Any],
    note: Callable[[dict[str, Any]], object],
) -> Checkpoints:
    execution = program.execution
    mirror = execution.mirror
    return Checkpoints(
        directory.checkpoints,
        execution.keep_checkpoints,
        program.keep_every,
        execution.max_save_failures,
        note,
        None if mirror is None else MirrorCopies(mirror, directory),
        saved_otherwise(record, program),
    )


def _heartbeat(
    directory: RunDirectory, first_started: str, execution: ExecutionConfig
) -> Heartbeat:
    rows = [
        (row["step"], row.get("step_seconds", 0)) for row in read_metrics(directory.metrics_file)
    ]
    clock = PhaseClock(datetime.datetime.fromisoformat(first_started).timestamp(), rows)
    minutes = execution.watchdog_minutes
    limit = None if minutes is None else 60.0 * minutes
    process, count = distributed.process_index(), distributed.process_count()
    return Heartbeat(directory.path, process, count, limit, clock)


def _enter(directory: RunDirectory, config: RunConfig) -> dict[str, Any]:
    """Returns what run.json says already, of a directory that takes this configuration."""
    directory.forget_failed_start(getattr(config.mixture.codec, "path", ""))
    directory.check_config(
        to_gin(config), lambda: difference(load_recorded(directory.config_file), config)
    )
    keep_codecs(config.mixture, directory.path)
    return directory.read_record() if directory.run_file.exists() else {}
