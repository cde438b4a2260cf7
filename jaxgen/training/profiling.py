"""Traces some steps of a run, for xprof, Perfetto and `jaxgen profile`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxgen.distributed import is_main
from jaxgen.errors import ConfigError

FOLDER = "profile"
"""In the run's directory."""
PROGRAM = "step.hlo.txt"
"""In a trace's folder: the compiled step, whose instructions the trace names."""


class StepTrace:
    """Traces the steps from one to another, both counted from 1 and both in it.

    Args:
      steps: the first and the last; None traces nothing.
      run_dir: the trace is in `profile/FIRST-LAST` there, one file for each process.
      total_steps: of the run.

    Raises:
      ConfigError: if there are no such steps.
    """

    def __init__(self, steps: tuple[int, int] | None, run_dir: pathlib.Path, total_steps: int):
        self._first, self._last = steps or (0, 0)
        if steps is not None and not self._first <= self._last <= total_steps:
            raise ConfigError(
                f"execution.profile_steps={steps} is no stretch of steps of a run of {total_steps}:"
                " the first and the last, counted from 1, such as (10, 13)."
            )
        self._folder = run_dir / FOLDER / f"{self._first:08}-{self._last:08}"
        self._is_tracing = False

    @contextlib.contextmanager
    def step(self, step: int, before: Any) -> Iterator[None]:
        """Traces a step if it is one of them.

        Args:
          step: that begins.
          before: the result of the steps before it, which are still at work perhaps, and must have
            ended when tracing begins.
        """
        if step == self._first:
            jax.block_until_ready(before)
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True
        if not self._is_tracing:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def end(self, step: int, result: Any, program_text: Callable[[], str | None]) -> None:
        """Ends the tracing after the last of the steps.

        Args:
          step: that was begun.
          result: of the step, which is waited for.
          program_text: returns the text of the compiled step.
        """
        if not self._is_tracing or step != self._last:
            return
        jax.block_until_ready(result)
        self.close()
        if is_main():
            (self._folder / PROGRAM).write_text(program_text() or "")
            print(f"steps {self._first} to {self._last} are traced in {self._folder}", flush=True)

    def close(self) -> None:
        """Writes what was traced, of steps that were cut short too."""
        if self._is_tracing:
            self._is_tracing = False
            jax.profiler.stop_trace()


NO_TRACE = StepTrace(None, pathlib.Path(), 0)
