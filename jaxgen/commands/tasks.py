"""`jaxgen tasks`: lists tasks, and shows what a model reads of them."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

from jaxgen.commands.table import table_lines
from jaxgen.configuration import load
from jaxgen.configuration.files import library_folders
from jaxgen.configuration.suggesting import did_you_mean, nearest
from jaxgen.data.mixtures import Mixture
from jaxgen.data.showing import Shown, lines, short, show
from jaxgen.data.tasks import Task, all_tasks, tasks_of
from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig


def listing(arguments: argparse.Namespace) -> int:
    """Prints a line for each task.

    Args:
      arguments: `gin_files` and `bindings` of a mixture, whose tasks are listed with their shares;
        without any, the tasks that come with jaxgen are.
    """
    shares = {}
    if arguments.gin_files:
        mixture = load_mixture(arguments.gin_files, arguments.bindings)[0]
        tasks = all_tasks(mixture)
        if isinstance(mixture, Mixture) and mixture.weights is not None:
            shares = mixture.shares({})
    else:
        tasks = [load_task(name) for name in task_names()]
    header = ("task", "source", "features", "preprocessors", "codec", "epochs", "share")
    rows = [header] + [(*_row(task), _share(shares.get(task.name))) for task in tasks]
    if not shares:
        rows = [row[:-1] for row in rows]
    print("\n".join(table_lines(rows, left=len(rows[0]))))
    return 0


def show_task(arguments: argparse.Namespace) -> int:
    """Prints records of a task: raw, processed, and as the model reads them.

    Args:
      arguments: `name`; `examples`, `seed`, `split`, `longest` (tokens of a document that are
        shown), `encoder` (whether a model with an encoder reads it); and `gin_files` and
        `bindings` of a mixture that has the task, or none.
    """
    task, encodes = find_task(arguments.name, arguments.gin_files, arguments.bindings)
    shown = show(
        task, arguments.examples, arguments.seed, arguments.longest, arguments.encoder,
        arguments.split, encodes,
    )  # fmt: skip
    _, source, features, *_ = _row(task)
    print(f"{task.identity}: {source}, {features}; metrics {', '.join(task.metric_names)}")
    for number, one in enumerate(shown, start=1):
        print(f"\nexample {number} of {len(shown)}")
        for line in _lines(one, task):
            print(line)
    return 0


def task_names() -> list[str]:
    """Returns the names of the tasks that come with jaxgen."""
    files = (file for folder in library_folders() for file in (folder / "tasks").glob("*.gin"))
    return sorted({file.stem for file in files})


def load_task(name: str) -> Task:
    """Returns a task that comes with jaxgen.

    Raises:
      ConfigError: naming those that are near.
    """
    if name not in task_names():
        near = nearest(name, task_names())
        raise ConfigError(
            f"there is no task {name!r}{did_you_mean(near) or '.'} `jaxgen tasks` lists them; "
            "--gin_file=FILE names a mixture with others."
        )
    bindings = ["mixture.name='alone'", f"mixture.tasks=(@{name}/task(),)"]
    return load([f"tasks/{name}.gin"], bindings, root="mixture").every_task[0]


def task_named(name: str, gin_files: list[str], bindings: list[str]) -> Task:
    """Returns a task of the files' data, or one that comes with jaxgen where there are none.

    Raises:
      ConfigError: naming those that there are.
    """
    return find_task(name, gin_files, bindings)[0]


def find_task(name: str, gin_files: list[str], bindings: list[str]) -> tuple[Task, bool]:
    """Returns a task, see `task_named`, and whether its examples are rows of tokens."""
    if not gin_files:
        return load_task(name), True
    data = load_mixture(gin_files, bindings)[0]
    tasks = {task.name: task for task in all_tasks(data)}
    if name not in tasks:
        raise ConfigError(f"the mixture has no task {name!r}; it has {', '.join(sorted(tasks))}.")
    return tasks[name], bool(tasks_of(data))


def load_mixture(gin_files: list[str], bindings: list[str]) -> tuple[Any, RunConfig | None]:
    """Returns the mixture of the files, or other data, and the run if they make a whole one."""
    try:
        return load(gin_files, bindings, root="mixture"), None
    except ConfigError as error:
        try:
            run = load(gin_files, bindings)
        except ConfigError as of_run:
            # Files without a run are those of a mixture, whose own faults are told.
            has_run = "run." in str(error) or "`run` needs" not in str(of_run)
            raise (of_run if has_run else error) from None
        return run.mixture, run


def _row(task: Task) -> tuple[str, ...]:
    features, denoising = type(task.features).__name__, task.features.denoising
    return (
        task.identity,
        type(task.source).__name__,
        features if denoising is None else f"{features}, {type(denoising).__name__}",
        ", ".join(type(step).__name__ for step in task.preprocessors) or "-",
        task.codec.digest,
        "any" if task.epochs is None else f"{task.epochs:g}",
    )


def _share(share) -> str:
    return "-" if share is None else f"{float(share):.4%}"


def _lines(shown: Shown, task: Task) -> Iterator[str]:
    yield f"record    {short(shown.record)}"
    if not shown.processed:
        yield "          left out by the preprocessors"
    for record, segment in itertools.zip_longest(shown.processed, shown.segments):
        if record is not shown.record and short(record) != short(shown.record):
            yield f"processed {short(record)}"
        if segment is not None:
            yield from lines(segment, task.codec)
