"""The evaluator of whether a contrastive run finds the captions of pictures that were made."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.protocols import Record
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.made_pictures import corruption_of, pairs_of
from jaxgen.evaluation.pairs import ranks_of
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.evaluation.reranking import check_compares, encode_both
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.ops.pixels import as_pixels
from jaxgen.runs.restoring import read_record, restore


@dataclasses.dataclass(frozen=True)
class FoundCaptions:
    """Makes pictures of held-out captions, and looks for that of each among all of them.

    A contrastive run looks (R-precision, 1711.10485, 4.1). It also looks for those of the records'
    own pictures, which is about what a perfect model gets from it.

    Attributes:
      run_dir: of the contrastive run, seen from the current folder.
      sampling: how pictures are made.
      num_captions: unlike one another; by chance one in so many is found.
      name: the name in tables.
    """

    run_dir: str
    sampling: PictureSampling = PictureSampling()
    num_captions: PositiveInt = 100
    name: str = "found_captions"

    def __post_init__(self):
        check_domains(self, "found_captions")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if captions are too few, nothing is made, or no run compares."""
        self._records(pairs_of(context, self.name), context.seed)
        corruption_of(context, self)
        read_record(self.run_dir)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption.

        Returns:
          Rows with "instance", "exact_match" (whether no other caption is as near to what was
          made), "rank" (how many are, from 1), "text_of_true" and "rank_of_true" likewise of the
          record's own picture, and "chance".

        Raises:
          CheckpointError: if there is no such run.
          ConfigError: if it compares no pictures with texts.
        """
        pairs = pairs_of(context, self.name)
        records = self._records(pairs, context.seed)
        captions, true = pairs.captions(records), pairs.pixels(records)
        judge = restore(self.run_dir, jax.sharding.get_mesh())
        check_compares(judge.model, judge.config.mixture)
        made = make_arrays(
            model,
            corruption_of(context, self),
            self.sampling,
            Prompts(*pairs.tokens(captions, context.length), true),
            range(len(records)),
            context.seed,
            context.batch_size,
        )
        pictures = np.concatenate([np.asarray(as_pixels(made)), true])
        length = judge.config.train.length
        seen, read = encode_both(
            judge.model, judge.config.mixture, length, list(pictures), captions
        )
        of_made, of_true = (ranks_of(one, read) for one in np.split(seen, 2))
        return [
            {
                "instance": instance_of(record, place),
                "exact_match": int(of_made[place] == 1),
                "rank": int(of_made[place]),
                "text_of_true": int(of_true[place] == 1),
                "rank_of_true": int(of_true[place]),
                "chance": 1 / len(records),
            }
            for place, record in enumerate(records)
        ]

    def _records(self, pairs: ImageTextPairs, seed: int) -> list[Record]:
        """Returns records whose captions are unlike; DataError if there are too few."""
        by_caption: dict[str, Record] = {}
        records = pairs.examples(8 * self.num_captions, seed)
        for caption, record in zip(pairs.captions(records), records, strict=True):
            by_caption.setdefault(caption, record)
        found = list(by_caption.values())[: self.num_captions]
        if len(found) < self.num_captions:
            raise DataError(
                f"{self.name}: {len(found)} held-out captions are unlike one another, fewer than "
                f"found_captions.num_captions={self.num_captions}; set that to {len(found)}."
            )
        return found
