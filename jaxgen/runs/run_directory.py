"""A run is a directory: what is in it, and what it refuses.

config.gin       what the run is: its operative configuration, complete
run.json         fingerprint, parameters, FLOPs, and mesh, versions, revision of the last start
history.jsonl    a line for each start: when, where, how it was executed and what changed
metrics.jsonl    a row each execution.log_every, append-only, the source of truth
evals/           one row an instance
data.json        the files of its data, with digests
checkpoints/     Orbax
heartbeats/      how far each process is, and the stacks of one that was stuck
tensorboard/     the same figures as events, unless execution.trackers says otherwise
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

from jaxgen.errors import CheckpointError
from jaxgen.files import TEMPORARY, cannot_write, check_local, read_rows, write_atomically
from jaxgen.interchange.originals import FOLDER
from jaxgen.json_values import check_shape, check_time, read_json

NUMBER = (Real, None)
COUNTS = {"total": int, "embedding": int, "active": int}
SCORES = {str: {"loss?": NUMBER, "exact_match?": NUMBER, "chance?": (float, None)}}
FINISHED = {
    "name": str, "fingerprint": str, "seed": int, "steps": int, "tokens": int,
    "flops": float, "flops_per_token": float, "parameters": COUNTS, "evaluation": SCORES,
    "started": check_time, "versions": {str: str}, "git_revision": (str, None),
}  # fmt: skip
"""The shape of what run.json says of a finished run, beside RECORD."""
RECORD = {f"{name}?": shape for name, shape in FINISHED.items()} | {
    "finished?": bool, "codec_digest?": str, "failed?": str, "is_trunk?": bool,
    "first_started?": check_time, "started_in?": {"folder?": str, "from_run?": str},
    "imported_from?": str, "imports?": [{"module": str, "file": str, "digest": str}],
    "shares?": {str: float}, "epochs?": {str: float}, "examples?": {str: int}, "tasks?": [str],
    "extended_from?": {"step": int, "state_dtype?": str},
    "initialized_from?": ({"name": str, "fingerprint": str}, None),
    "initialized_parts?": {str: {"name": str, "fingerprint": str}},
}  # fmt: skip
"""The shape of run.json."""
ROW = {
    "step": int, "tokens?": int, "loss?": NUMBER, "tokens_per_second?": (float, None),
    "model_flops_per_second?": (float, None), "seconds_left?": (float, None),
    "step_seconds?": float, "goodput?": float,
}  # fmt: skip
"""The shape of a row of metrics.jsonl."""


class RunDirectory:
    """Paths and small files of one run."""

    def __init__(self, path: str | os.PathLike):
        if not os.fspath(path):
            raise CheckpointError("--run_dir is empty; name a folder, such as --run_dir=runs/mine.")
        check_local("--run_dir", path)
        self.path = pathlib.Path(path).expanduser().absolute()
        self.config_file = self.path / "config.gin"
        self.run_file = self.path / "run.json"
        self.history_file = self.path / "history.jsonl"
        self.data_file = self.path / "data.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.evaluations = self.path / "evals"
        self.checkpoints = self.path / "checkpoints"

    def beside(self, path: str) -> RunDirectory:
        """Returns the run of a path, which is seen from this one if it is relative."""
        return RunDirectory(os.path.normpath(self.path / os.path.expanduser(path)))

    def evaluation_file(self, step: int) -> pathlib.Path:
        """Returns where the evaluation of a step is."""
        return self.evaluations / f"{step:08}.jsonl"

    def prepare(self) -> None:
        """Makes the directory and proves that it can be written.

        Raises:
          CheckpointError: if it cannot.
        """
        runs = [] if self.config_file.exists() else sorted(self.path.glob("*/config.gin"))
        if runs:
            raise CheckpointError(
                f"{self.path} is a folder of runs, such as {runs[0].parent.name}; give a new run a "
                f"folder of its own, such as --run_dir={self.path / 'mine'}."
            )
        try:
            self.evaluations.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-probe-{os.getpid()}"
            probe.write_text("x")
            probe.unlink()
        except OSError as error:
            if error.errno in TEMPORARY:
                raise cannot_write(
                    f"the run directory {self.path} cannot be written", error
                ) from error
            raise CheckpointError(
                f"the run directory {self.path} cannot be written ({error.strerror}); "
                "choose another with --run_dir, or change its permissions."
            ) from error

    @contextlib.contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        """Locks the directory for one process.

        Args:
          timeout: seconds to wait for another process to leave it.

        Raises:
          CheckpointError: if another process is still at work in it then.
        """
        deadline = time.monotonic() + timeout
        with open(self.path / ".lock", "w") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() >= deadline:
                        raise CheckpointError(
                            f"another process is training in {self.path}; wait for it, or use "
                            "another --run_dir."
                        ) from error
                    time.sleep(0.2)
            yield

    def is_locked(self) -> bool:
        """Returns whether a process is at work in it now."""
        try:
            with open(self.path / ".lock") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def has_begun(self) -> bool:
        """Returns whether anything of a training is kept: a row, or a checkpoint."""
        has_rows = self.metrics_file.exists() and self.metrics_file.stat().st_size > 0
        return has_rows or any(self.checkpoints.glob("[0-9]*"))

    def saved_steps(self) -> list[int]:
        """Returns the steps of the whole checkpoints, ascending, as their folders are named."""
        return sorted(int(one.name) for one in self.checkpoints.glob("*") if one.name.isdecimal())

    def forget_failed_start(self, *used: str) -> None:
        """Removes what a start left that failed before anything was trained.

        Otherwise its configuration and tokenizer would contradict their own correction.

        Args:
          *used: files to leave, though they are the run's own copies.
        """
        if self.has_begun():
            return
        kept = {os.path.realpath(path) for path in used}
        for file in (self.config_file, *self.path.glob("tokenizer.*")):
            if os.path.realpath(file) not in kept:
                file.unlink(missing_ok=True)
        shutil.rmtree(self.path / FOLDER, ignore_errors=True)

    def check_config(self, config_text: str, describe_difference: Callable[[], list[str]]) -> None:
        """Writes the configuration, or refuses one that differs from the run's own.

        Args:
          config_text: the canonical text.
          describe_difference: called if the texts differ; returns lines, none if all is equal.

        Raises:
          CheckpointError: listing what differs.
        """
        if not self.config_file.exists():
            write_atomically(self.config_file, config_text)
            return
        recorded = self.config_file.read_text(encoding="utf-8", errors="replace")
        if recorded == config_text:
            return
        differences = describe_difference()
        if not differences:
            return
        lines = "\n".join(f"  {line}" for line in differences)
        raise CheckpointError(
            f"{self.path} was started with another configuration:\n{lines}\n"
            "Give the run its own --run_dir, or go back to the recorded configuration "
            f"({self.config_file})."
        )

    def is_finished(self) -> bool:
        """Returns whether the run came to its end and was evaluated."""
        return self.run_file.exists() and bool(self.read_record().get("finished"))

    def read_finished(self) -> dict[str, Any]:
        """Returns the content of run.json of a finished run.

        Raises:
          CheckpointError: if it lacks what a finished run has; or as `read_record`.
        """
        return self.read_whole(FINISHED)

    def read_whole(self, shape: dict[str, Any], subject: str = "") -> dict[str, Any]:
        """Returns the content of run.json, checked to have a shape (`json_values.check_shape`).

        Raises:
          CheckpointError: if it has another, after the words of the subject; or as `read_record`.
        """
        record = self.read_record()
        try:
            check_shape(record, shape)
        except ValueError as error:
            raise CheckpointError(
                f"{subject}{self.run_file} is not whole ({error}); restore it from a copy."
            ) from error
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Replaces run.json."""
        write_atomically(self.run_file, json.dumps(record, indent=2) + "\n")

    def read_record(self) -> dict[str, Any]:
        """Returns the content of run.json.

        Raises:
          CheckpointError: if the directory holds no run, or its record is damaged.
        """
        try:
            return read_json(self.run_file, RECORD, "restore it from a copy")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CheckpointError(
                f"{self.path} is not a run directory: it has no run.json."
            ) from error


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl by step; of a step logged twice the last counts."""
    by_step = {row["step"]: row for row in read_rows(path, ROW)}
    return [by_step[step] for step in sorted(by_step)]
