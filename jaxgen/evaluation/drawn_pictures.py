"""The evaluator of models that draw in rows: pictures of held-out captions, verified and shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.data.drawing import rows_to_draw
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.domains import NonNegativeInt, PositiveInt, check_domains
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.made_pictures import corruption_of, picture_rows, verifier_of
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.transfusion import RowsToDraw
from jaxgen.ops.pixels import as_pixels


@dataclasses.dataclass(frozen=True)
class DrawnPictures:
    """Draws pictures after held-out captions, and has their source verify each attribute.

    Attributes:
      pairs: the captions and pictures; a split's examples, no batch is made of them.
      sampling: how pictures are drawn.
      num_examples: captions.
      verified: whether the source reads off what was drawn.
      shown: instances whose picture is kept in the rows, beside the record's own.
      name: the name in tables.
    """

    pairs: ImageTextPairs
    sampling: PictureSampling = PictureSampling()
    num_examples: PositiveInt = 128
    verified: bool = True
    shown: NonNegativeInt = 32
    name: str = "drawn_pictures"

    def __post_init__(self):
        check_domains(self, "drawn_pictures")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if nothing is drawn, or nothing verifies what is."""
        verifier_of(self.pairs, self.verified)
        corruption_of(context, self, "transfusion_loss")
        rows_to_draw([None], codec_of(context), context.length)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption; see `picture_rows`."""
        records = self.pairs.examples(self.num_examples, context.seed)
        captions, codec = self.pairs.captions(records), codec_of(context)
        told = rows_to_draw(captions, codec, context.length)
        untold = rows_to_draw([None] * len(records), codec, context.length, told.shape[1])
        made = make_arrays(
            model,
            corruption_of(context, self, "transfusion_loss"),
            self.sampling,
            RowsToDraw(told, untold),
            range(len(records)),
            context.seed,
            context.batch_size,
        )
        return picture_rows(self.pairs, records, as_pixels(made), self.verified, self.shown)


def codec_of(context: EvaluationContext) -> Any:
    """Returns the codec of the run's data."""
    return context.data.codec
