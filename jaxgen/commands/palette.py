"""`jaxgen palette train`: finds a palette of patches or frames in a task's pictures or sounds."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from jaxgen.codecs.media import Media, Modality, media_of
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import (
    made_for,
    nearest,
    palette_vectors,
    train_palette,
    whole_patch,
)
from jaxgen.commands.tasks import task_named
from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Record, Split
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.files import check_folder_of

HELD_OUT = 200
"""Held-out examples on which a palette is measured."""
DEFAULT_RATE = 16_000
"""Samples a second of sounds whose records do not say."""


def train(arguments: argparse.Namespace) -> int:
    """Writes a palette, and prints how well it keeps held-out examples.

    Args:
      arguments: `task`, `field` and `examples` of it; `patch` or None; `rate`, `window`, `hop` and
        `bands` of a sound's frames; `codes`, `seed`, `output`; and `gin_files` and `bindings` of a
        mixture that has the task, or none.
    """
    task = task_named(arguments.task, arguments.gin_files, arguments.bindings)
    check_folder_of(arguments.output)
    vectors, modality, purpose = _vectors(task, arguments, arguments.examples, "train")
    table = train_palette(vectors, arguments.codes, arguments.output, purpose, arguments.seed)
    print(
        f"{arguments.output}: {len(table)} vectors of {table.shape[1]} numbers, from "
        f"{len(vectors):,} of {task.name}"
    )
    others, *_ = _vectors(task, arguments, HELD_OUT, "heldout")
    codes = nearest(others, table)
    error = float(np.square(table[codes] - others).mean())
    said = f"mean squared error {error:.3g}"
    if modality != "audio":  # Pixels are from 0 to 1.
        said += f", PSNR {-10 * math.log10(error):.1f} dB" if error else ", nothing is lost"
    print(f"held out: {said}, {len(np.unique(codes))} of the vectors used")
    return 0


def _vectors(
    task: Task, arguments: argparse.Namespace, count: int, split: Split
) -> tuple[np.ndarray, Modality, str]:
    """Returns the vectors of examples of a split, of what modality they are, and what they are."""
    records = task.instances(count, arguments.seed, split)
    if not records:
        raise DataError(f"task {task.name} has no example in its {split} split.")
    found = [_media(record, arguments.field) for record in records]
    modality, mel, patch = found[0].modality, None, ()
    if modality == "audio":
        rates = {one.rate for one in found if one.rate is not None} or {DEFAULT_RATE}
        rate = arguments.rate or min(rates)
        if rates - {rate} and (arguments.rate is None or found[0].rate is not None):
            raise ConfigError(
                f"the sounds of task {task.name} have {sorted(rates)} samples a second, not "
                f"{rate}: convert them (decode_media.rate), or leave out --rate."
            )
        mel = MelFrames(rate, arguments.window, arguments.hop, arguments.bands)
    else:
        patch = whole_patch(modality, arguments.patch)
    vectors = [palette_vectors(one, arguments.patch, mel) for one in found]
    return np.concatenate(vectors), modality, made_for(modality, patch, mel)


def _media(record: Record, field: str) -> Media:
    value: Any = need(record, field, "--field")
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"--field={field} is {type(value).__name__}, not a picture, sound or clip; name one."
        )
    return media_of(value, record.get("rate"))
