"""The evaluator of how far the pictures of a model of diffusion are, as a set, from true ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.made_pictures import corruption_of, pairs_of
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.evaluation.picture_sets import (
    PictureFeatures,
    PixelFeatures,
    asked_of,
    subset_rows,
)
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.ops.pixels import as_pixels


@dataclasses.dataclass(frozen=True)
class MadePictureSets:
    """Compares pictures made of held-out captions with true pictures of others: FID, KID, CMMD.

    As `PictureSets` does for models that write codes: beside each distance is its floor, that of
    true pictures from true ones, and a row is a subset.

    Attributes:
      features: what pictures are compared by.
      sampling: how pictures are made.
      subset_size: captions of a subset, an even number of 4 or more.
      subsets: how many, two or more.
      name: the name in tables.
    """

    features: PictureFeatures = PixelFeatures()
    sampling: PictureSampling = PictureSampling()
    subset_size: PositiveInt = 64
    subsets: PositiveInt = 2
    name: str = "made_picture_sets"

    def __post_init__(self):
        check_domains(self, "made_picture_sets")
        if self.subset_size % 2 or self.subset_size < 4 or self.subsets < 2:
            raise ConfigError(
                f"made_picture_sets.subset_size={self.subset_size} and subsets={self.subsets}: "
                "subsets are cut into halves of two or more, and intervals need two: use an even "
                "number from 4 on, and 2 or more."
            )

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no pictures of captions, or too few."""
        corruption_of(context, self)
        count = self.subset_size * self.subsets
        found = len(pairs_of(context, self.name).examples(count, context.seed))
        if found < count:
            raise DataError(
                f"{self.name}: {found} held-out pictures are fewer than {self.subsets} subsets of "
                f"{self.subset_size}; set made_picture_sets.subset_size."
            )

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a subset: each distance, and its floor as NAME_floor."""
        pairs = pairs_of(context, self.name)
        count = self.subset_size * self.subsets
        records = pairs.examples(count, context.seed)
        true, asked = pairs.pixels(records), asked_of(count, self.subset_size)
        captions = pairs.captions([records[place] for place in asked])
        told = pairs.told(captions, context.length, context.source_length)
        made = make_arrays(
            model,
            corruption_of(context, self),
            self.sampling,
            Prompts(**told, images=true[asked]),
            [int(place) for place in asked],
            context.seed,
            context.batch_size,
        )
        return subset_rows(self.features, true, np.asarray(as_pixels(made)), self.subset_size)
