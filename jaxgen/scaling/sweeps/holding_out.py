"""A sweep whose largest rung is predicted before it is trained.

Its runs begin when all others are over and the prediction lies in the sweep's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxgen.errors import StudyError
from jaxgen.run_config import RunConfig
from jaxgen.scaling.collecting import rung_of
from jaxgen.scaling.held_out import held_out_rung
from jaxgen.scaling.registering import FILE, read_registered, register
from jaxgen.scaling.sweeps.sweep import Sweep


def is_held_out(sweep: Sweep, config: RunConfig) -> bool:
    """Whether a run is of the rung that is predicted."""
    return sweep.held_out is not None and rung_of(config.name) == sweep.held_out


def divided(sweep: Sweep) -> tuple[list[RunConfig], list[RunConfig]]:
    """The runs that a prediction rests on, and those that it is of."""
    first = [run for run in sweep.runs if not is_held_out(sweep, run)]
    return first, [run for run in sweep.runs if is_held_out(sweep, run)]


def ensure_registered(sweep: Sweep, folder: Path, is_finished: Sequence[bool]) -> str | None:
    """Registers the prediction, if it is not there yet; says what was done.

    Args:
      sweep: with a rung that is held out.
      folder: of the sweep.
      is_finished: of every run that the prediction rests on.

    Raises:
      StudyError: some of those runs are missing, or no law can be fitted to them.
    """
    if read_registered(folder) is not None:
        return None
    if not all(is_finished):
        raise StudyError(
            f"{is_finished.count(False)} runs that the prediction of {sweep.held_out!r} rests on "
            "have not finished; it is registered, and its runs begin, when they have."
        )
    try:
        register(folder, held_out_rung(divided(sweep)[1]))
    except StudyError:
        if read_registered(folder) is None:  # Another process may just have done it.
            raise
    return f"the prediction of {sweep.held_out} is registered in {folder / FILE}"
