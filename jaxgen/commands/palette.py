"""`jaxgen palette train`: finds a palette of patches or frames in a task's pictures or sounds."""

from __future__ import annotations

import argparse

import numpy as np

from jaxgen.codecs.media import Media, media_of
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import palette_vectors, train_palette
from jaxgen.commands.tasks import load_mixture, load_task
from jaxgen.data.preprocessors import need
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError


def train(arguments: argparse.Namespace) -> int:
    """Writes a palette, and prints how well it keeps what it has not seen.

    Args:
      arguments: `task`, `field` and `examples` of it; `patch` or None; `rate`, `window`, `hop` and
        `bands` of a sound's frames; `codes`, `seed`, `output`; and `gin_files` and `bindings` of a
        mixture that has the task, or none.
    """
    task = _task(arguments)
    mel = MelFrames(arguments.rate, arguments.window, arguments.hop, arguments.bands)
    vectors = np.concatenate(
        [
            palette_vectors(_media(record, arguments.field), arguments.patch, mel)
            for record in task.instances(arguments.examples, arguments.seed, "train")
        ]
    )
    table = train_palette(vectors, arguments.codes, arguments.output, arguments.seed)
    print(f"{arguments.output}: {len(table)} vectors of {table.shape[1]} numbers")
    print(f"of {len(vectors):,} in {arguments.examples:,} examples of {task.name}")
    return 0


def _task(arguments: argparse.Namespace) -> Task:
    if not arguments.gin_files:
        return load_task(arguments.task)
    tasks = load_mixture(arguments.gin_files, arguments.bindings)[0].every_task
    for task in tasks:
        if task.name == arguments.task:
            return task
    names = ", ".join(sorted(task.name for task in tasks))
    raise ConfigError(f"the mixture has no task {arguments.task!r}; it has {names}.")


def _media(record: dict, field: str) -> Media:
    value = need(record, field, "--field")
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"--field={field} is {type(value).__name__}, not a picture, sound or clip; name one."
        )
    return media_of(value)
