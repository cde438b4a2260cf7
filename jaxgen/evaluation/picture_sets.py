"""How far the pictures that a model makes are, as a set, from true ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from jaxgen.codecs.media import MediaRange
from jaxgen.data.image_files import resize_image
from jaxgen.data.packing import RowShape
from jaxgen.data.parts import Example
from jaxgen.data.protocols import Record
from jaxgen.data.tasks import Task
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import Row, last_answer
from jaxgen.evaluation.distances import DISTANCES
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.media import check_makes, make_media, medium_of, own_media
from jaxgen.generation.policies import SamplingPolicy


@runtime_checkable
class PictureFeatures(Protocol):
    """Maps pictures to vectors; a frozen dataclass with this call, such as `RunFeatures`."""

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Returns [pictures, features] of [pictures, height, width, 3] uint8; under a mesh."""
        ...


@dataclasses.dataclass(frozen=True)
class PixelFeatures:
    """Colours of a small copy of a picture, from 0 to 1: features that need no training.

    Attributes:
      size: height and width of the copy.
    """

    size: PositiveInt = 4

    def __post_init__(self):
        check_domains(self, "pixel_features")

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Returns [pictures, 3 size^2]."""
        small = [resize_image(picture, (self.size, self.size)) for picture in pictures]
        return np.stack(small).reshape(len(small), -1) / 255


@dataclasses.dataclass(frozen=True)
class PictureSets:
    """Compares the pictures made for some prompts with true pictures of other prompts.

    The instances are cut into subsets and each of these into halves. What is made for the prompts
    of the first half is compared with the pictures of the second: NAME. So are the first half's own
    pictures: NAME_floor, which is what a perfect model gets from so few pictures. A row is a
    subset, so that intervals are over subsets.

    Attributes:
      features: what pictures are compared by.
      policy: how codes are chosen.
      subset_size: instances of a subset, an even number of 4 or more.
    """

    features: PictureFeatures = PixelFeatures()
    policy: SamplingPolicy = SamplingPolicy()
    subset_size: PositiveInt = 64

    METRICS: ClassVar[tuple[str, ...]] = tuple(
        name + end for name in DISTANCES for end in ("", "_floor")
    )

    def __post_init__(self):
        check_domains(self, "picture_sets")
        if self.subset_size % 2 or self.subset_size < 4:
            raise ConfigError(
                f"picture_sets.subset_size={self.subset_size} is cut into halves of two or more; "
                "use an even number from 4 on."
            )

    def check(self, task: Task, examples: Sequence[Example], shape: RowShape) -> None:
        """Raises DataError if there are no whole subsets, or what is to be made is no picture."""
        medium = check_makes("picture_sets", task, examples, shape)
        self._check(task, medium, len(examples))

    def score(self, scorer: Scorer, task: Task, records: Sequence[Record]) -> list[Row]:
        """Returns one row for each subset of the records.

        Returns:
          Rows with "task", "instance" and of each of DISTANCES the distance and its floor.

        Raises:
          DataError: if the answers are no pictures, or too few.
        """
        examples = task.encode(records, scorer.has_source)
        pairs = [last_answer(example) for example in examples]
        medium = medium_of(task, [answer for _, answer in pairs])
        self._check(task, medium, len(pairs))
        asked = [pairs[place] for place in asked_of(len(pairs), self.subset_size)]
        made = make_media(scorer, task, [prompt for prompt, _ in asked], medium, self.policy)
        true = own_media(task, [answer for _, answer in pairs])
        pictures = [np.stack([one.values for one in some]) for some in (true, made)]
        rows = subset_rows(self.features, pictures[0], pictures[1], self.subset_size)
        return [{"task": task.name} | row for row in rows]

    def _check(self, task: Task, medium: MediaRange, count: int) -> None:
        if medium.modality != "image":
            raise DataError(
                f"task {task.name}: picture_sets compares pictures; score clips and sounds by "
                "@generated_media()."
            )
        if count < 2 * self.subset_size or count % self.subset_size:
            raise DataError(
                f"task {task.name}: {count} instances do not make two or more whole subsets "
                f"of picture_sets.subset_size={self.subset_size}; set evaluation_task.num_examples "
                "to a multiple of it, twice or more."
            )


def asked_of(count: int, subset_size: int) -> np.ndarray:
    """Returns the places, of `count` pictures, in whose stead others are to be made."""
    return np.arange(count).reshape(-1, 2, subset_size // 2)[:, 0].ravel()


def subset_rows(
    features: PictureFeatures, true: np.ndarray, made: np.ndarray, subset_size: int
) -> list[Row]:
    """Returns a row for each subset: every distance, and that of true pictures from true ones.

    Args:
      features: what pictures are compared by.
      true: [n, height, width, 3] uint8, whole subsets.
      made: [n / 2, height, width, 3] uint8, in the stead of those at `asked_of(n, subset_size)`.
      subset_size: an even number.
    """
    count, half = len(true) // subset_size, subset_size // 2
    found = features(np.concatenate([true, made]))
    true_features, made_features = np.split(found, [len(true)])
    made_features = made_features.reshape(count, half, -1)
    rows = []
    for number, (first, second) in enumerate(np.arange(len(true)).reshape(count, 2, half)):
        row: Row = {"instance": f"subset {number}"}
        for name, distance in DISTANCES.items():
            row[name] = distance(made_features[number], true_features[second])
            row[f"{name}_floor"] = distance(true_features[first], true_features[second])
        rows.append(row)
    return rows
