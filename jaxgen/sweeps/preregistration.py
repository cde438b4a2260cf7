"""Pre-registration: a sweep's largest rungs are predicted before they are trained.

Their runs begin when all others have finished and the predictions are in the sweep's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxgen.errors import StudyError
from jaxgen.runs.config import RunConfig
from jaxgen.studies.held_out_rung import held_out_rung
from jaxgen.studies.preregistration import FILE, preregister, read_preregistration
from jaxgen.studies.study_runs import rung_of
from jaxgen.sweeps.sweep import Sweep


def is_held_out(sweep: Sweep, config: RunConfig) -> bool:
    """Returns whether a run belongs to a rung that is predicted."""
    return rung_of(config.name) in sweep.held_out


def split_held_out(sweep: Sweep) -> tuple[list[RunConfig], list[RunConfig]]:
    """Returns the runs that the predictions are fitted to, and the held-out ones."""
    fitted = [run for run in sweep.runs if not is_held_out(sweep, run)]
    return fitted, [run for run in sweep.runs if is_held_out(sweep, run)]


def ensure_registered(sweep: Sweep, folder: Path, is_finished: Sequence[bool]) -> str | None:
    """Registers the predictions if they are not registered yet.

    Args:
      sweep: with held-out rungs.
      folder: of the sweep.
      is_finished: whether each run that the predictions are fitted to has finished.

    Returns:
      A sentence on what was done; None if nothing was.

    Raises:
      StudyError: some of those runs are missing, or no law can be fitted to them.
    """
    if read_preregistration(folder) is not None:
        return None
    if not all(is_finished):
        raise StudyError(
            f"the prediction of {', '.join(sweep.held_out)} is fitted to runs of which "
            f"{is_finished.count(False)} have not finished; it is registered, and the held-out "
            "runs begin, when they have."
        )
    try:
        preregister(folder, [held_out_rung(runs) for runs in _by_rung(split_held_out(sweep)[1])])
    except StudyError:
        if read_preregistration(folder) is None:  # Another process may just have done it.
            raise
    return f"the prediction of {', '.join(sweep.held_out)} is registered in {folder / FILE}"


def _by_rung(runs: Sequence[RunConfig]) -> list[list[RunConfig]]:
    found: dict[str, list[RunConfig]] = {}
    for run in runs:
        found.setdefault(rung_of(run.name), []).append(run)
    return list(found.values())
