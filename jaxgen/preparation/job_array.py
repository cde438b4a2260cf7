"""One function over many items by Slurm: an array is submitted, and this process waits for it.

The folder holds the pickled work, the script, the tasks' logs and a file for each result. A task is
`python -m jaxgen.preparation.job_array FOLDER NUMBER`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgen.errors import DataError
from jaxgen.slurm import TASK, JobArray, submit

TASKS_AT_MOST = 1000
"""Tasks of an array; Slurm's own default is 1,001. More items than this share tasks."""
PAUSE = 1.0
"""Seconds between two looks at the folder."""
LOOKS_AFTER_THE_END = 10
"""Looks after an array has ended, as shared folders show new files late."""
JOB, WORK = "job_id", "work.pickle"


def by_slurm(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    folder: Path,
    at_once: int | None,
    options: Sequence[str],
) -> Iterator[tuple[int, Any]]:
    """Yields (place, result) of the function of every item, as they finish; see `map_items`.

    Raises:
      ConfigError: if there is no sbatch, or it refuses.
      DataError: if tasks end without their results.
    """
    if not items:
        return
    folder = folder / function.__name__
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / JOB).exists():
        _end((folder / JOB).read_text())  # Of a process that was killed; two would be in the way.
    for old in folder.glob("*.result"):
        old.unlink()
    tasks = min(len(items), TASKS_AT_MOST)
    with open(folder / WORK, "wb") as file:
        # Parts of one's own are found again by the folders of `--import`.
        pickle.dump(sys.path, file)
        pickle.dump((function, list(items), tasks), file)
    array = JobArray(
        name=f"jaxgen-{function.__name__}",
        indices=range(tasks),
        command=[sys.executable, "-m", "jaxgen.preparation.job_array", str(folder), TASK],
        logs=folder,
        at_once=at_once,
        options=options,
    )
    job = submit(array.script(), folder / "array.sbatch", ["--parsable"]).split(";")[0]
    (folder / JOB).write_text(job)
    try:
        yield from _results(folder, len(items), job)
    finally:
        _end(job)
        (folder / JOB).unlink()


def _results(folder: Path, count: int, job: str) -> Iterator[tuple[int, Any]]:
    """Yields results as their files appear, until all are there."""
    missing, looks = set(range(count)), LOOKS_AFTER_THE_END
    while missing:
        has_ended = not _is_there(job)
        names = {name for name in os.listdir(folder) if name.endswith(".result")}
        found = {place for place in missing if f"{place}.result" in names}
        for place in sorted(found):
            result = pickle.loads((folder / f"{place}.result").read_bytes())
            if isinstance(result, Exception):
                raise result
            yield place, result
        missing -= found
        looks = looks - 1 if has_ended and not found else LOOKS_AFTER_THE_END
        if missing and not looks:
            raise DataError(
                f"the job array {job} ended without the results of {len(missing)} of {count} "
                f"items, {min(missing)} (from 0) among them: see {folder}/slurm-{job}_*.log. What "
                "is done is kept: run the same command again to go on, perhaps with more memory or "
                "time (--sbatch=--mem=16G)."
            )
        if missing and not found:
            time.sleep(PAUSE)


def _is_there(job: str) -> bool:
    """Returns whether tasks of an array wait or run; True where Slurm does not answer."""
    found = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}"], capture_output=True, text=True
    )
    if found.returncode and "Invalid job id" in found.stderr:
        return False
    return bool(found.returncode or found.stdout.strip())


def _end(job: str) -> None:
    """Cancels what is left of an array, and waits until it is gone."""
    if _is_there(job):
        subprocess.run(["scancel", job], capture_output=True)
        while _is_there(job):
            time.sleep(PAUSE)


def main(folder: Path, task: int) -> None:
    """Does the items of one task; an error of an item is its result."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with open(folder / WORK, "rb") as file:
        sys.path += [path for path in pickle.load(file) if path not in sys.path]
        function, items, tasks = pickle.load(file)
    for place in range(task, len(items), tasks):
        try:
            result = function(items[place])
        except Exception as error:
            result = error
        temporary = folder / f".{place}.tmp"
        temporary.write_bytes(pickle.dumps(result))
        os.replace(temporary, folder / f"{place}.result")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
