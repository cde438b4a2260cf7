"""`jaxgen palette train`: finds a palette of patches or frames in a task's pictures or sounds."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from jaxgen.codecs.media import Media, media_of
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import nearest, palette_vectors, train_palette
from jaxgen.commands.tasks import load_mixture, load_task
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record, Split
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError

HELD_OUT = 200
"""Held-out examples on which a palette is measured."""


def train(arguments: argparse.Namespace) -> int:
    """Writes a palette, and prints how well it keeps held-out examples.

    Args:
      arguments: `task`, `field` and `examples` of it; `patch` or None; `rate`, `window`, `hop` and
        `bands` of a sound's frames; `codes`, `seed`, `output`; and `gin_files` and `bindings` of a
        mixture that has the task, or none.
    """
    task = _task(arguments)
    vectors, modality = _vectors(task, arguments, arguments.examples, "train")
    table = train_palette(vectors, arguments.codes, arguments.output, arguments.seed)
    print(
        f"{arguments.output}: {len(table)} vectors of {table.shape[1]} numbers, from "
        f"{len(vectors):,} of {task.name}"
    )
    others, _ = _vectors(task, arguments, HELD_OUT, "heldout")
    codes = nearest(others, table)
    error = float(np.square(table[codes] - others).mean())
    said = f"mean squared error {error:.3g}"
    if modality != "audio":  # Pixels are from 0 to 1.
        said += f", PSNR {-10 * math.log10(error):.1f} dB" if error else ", nothing is lost"
    print(f"held out: {said}, {len(np.unique(codes))} of the vectors used")
    return 0


def _vectors(
    task: Task, arguments: argparse.Namespace, count: int, split: Split
) -> tuple[np.ndarray, str]:
    """Returns the vectors of examples of a split, and what they are of."""
    mel = MelFrames(arguments.rate, arguments.window, arguments.hop, arguments.bands)
    found = [
        _media(record, arguments.field) for record in task.instances(count, arguments.seed, split)
    ]
    if not found:
        raise DataError(f"task {task.name} has no example in its {split} split.")
    vectors = [palette_vectors(one, arguments.patch, mel) for one in found]
    return np.concatenate(vectors), found[0].modality


def _task(arguments: argparse.Namespace) -> Task:
    if not arguments.gin_files:
        return load_task(arguments.task)
    tasks = load_mixture(arguments.gin_files, arguments.bindings)[0].every_task
    for task in tasks:
        if task.name == arguments.task:
            return task
    names = ", ".join(sorted(task.name for task in tasks))
    raise ConfigError(f"the mixture has no task {arguments.task!r}; it has {names}.")


def _media(record: Record, field: str) -> Media:
    value: Any = need(record, field, "--field")
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"--field={field} is {type(value).__name__}, not a picture, sound or clip; name one."
        )
    return media_of(value)
