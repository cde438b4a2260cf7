"""The evaluator of models of diffusion: pictures of held-out captions, verified and shown."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.codecs.media import Media
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.domains import NonNegativeInt, PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.media import VERIFIERS, data_uri
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.generation.diffusion.sampling import Given, PictureSampling
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.pixels import as_numbers, as_pixels
from jaxgen.ops.resizing import resize


@dataclasses.dataclass(frozen=True)
class MadePictures:
    """Makes pictures of held-out captions, and has the data's source verify each attribute.

    An upsampler is given the records' own pictures, made smaller, and what reads pictures' vectors
    those pictures themselves.

    Attributes:
      sampling: how pictures are made.
      num_examples: captions.
      samples: pictures of each caption; of several, how unlike they are is measured.
      verified: whether the source reads off what was made.
      shown: instances whose picture is kept in the rows, beside the record's own.
      name: the name in tables.
    """

    sampling: PictureSampling = PictureSampling()
    num_examples: PositiveInt = 128
    samples: PositiveInt = 1
    verified: bool = True
    shown: NonNegativeInt = 32
    name: str = "made_pictures"

    def __post_init__(self):
        check_domains(self, "made_pictures")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no captions, or nothing verifies their pictures."""
        pairs = pairs_of(context, self.name)
        verifier_of(pairs, self.verified)
        corruption_of(context, self)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption; see `picture_rows`.

        With several samples the scores are means over them, and "diversity" is the root of the mean
        squared difference of two of them, from 0 to 1.
        """
        pairs = pairs_of(context, self.name)
        asked = pairs.examples(self.num_examples, context.seed)
        records = [record for record in asked for _ in range(self.samples)]
        captions = pairs.captions(records)
        told = pairs.told(captions, context.length, context.source_length)
        pixels = pairs.pixels(records)
        low = None
        if model.config.upsampling is not None:
            low = resize(as_numbers(pixels), model.config.upsampling.low_size)
        made = make_arrays(
            model,
            corruption_of(context, self),
            self.sampling,
            Prompts(**told, images=pixels),
            range(len(records)),
            context.seed,
            context.batch_size,
            Given(low=low),
        )
        pixels_made, shown = as_pixels(made), self.shown * self.samples
        rows = picture_rows(pairs, records, pixels_made, self.verified, shown)
        if self.samples == 1:
            return rows
        groups = np.split(np.arange(len(rows)), len(asked))
        return [_together([rows[place] for place in one], pixels_made[one]) for one in groups]


def picture_rows(
    pairs: ImageTextPairs,
    records: list[dict[str, Any]],
    made: np.ndarray,
    verified: bool,
    shown: int,
) -> list[Row]:
    """Returns a row for each record and the picture that was made of its caption.

    Returns:
      Rows with "instance"; where they are verified "exact_match", whether all attributes that the
      caption names are right, and each of them; and of the first `shown` the "prompt", and "made"
      and "reference" as data URIs.
    """
    verify, rows = verifier_of(pairs, verified), []
    captions, own = pairs.captions(records), pairs.pixels(records)
    for place, record in enumerate(records):
        row: Row = {"instance": instance_of(record, place)}
        if verify is not None:
            scores = dict(verify(record, _as_drawn(made[place], pairs)))
            row |= {"exact_match": scores.pop("all"), **scores}
        if place < shown:
            row["prompt"] = captions[place]
            for name, values in (("made", made[place]), ("reference", own[place])):
                row[name] = data_uri(Media("image", values))
        rows.append(row)
    return rows


def _together(rows: list[Row], made: np.ndarray) -> Row:
    """Returns the row of a caption, of those of its several pictures."""
    pictures = made.astype(np.float64) / 255
    squares = np.square(pictures[:, None] - pictures[None]).mean(axis=(2, 3, 4))
    count = len(rows)
    means = {
        name: float(np.mean([row[name] for row in rows]))
        for name, value in rows[0].items()
        if isinstance(value, int)
    }
    diversity = float(np.sqrt(squares.sum() / (count * (count - 1))))
    return rows[0] | means | {"diversity": diversity}


def _as_drawn(made: np.ndarray, pairs: ImageTextPairs) -> np.ndarray:
    """Returns a picture as large as the source draws it, which may be made smaller for a base."""
    times = getattr(pairs.task.source, "size", made.shape[0]) // made.shape[0]
    return made if times < 2 else np.kron(made, np.ones((times, times, 1), made.dtype))


def pairs_of(context: EvaluationContext, evaluator: str) -> ImageTextPairs:
    """Returns the data; ConfigError if they are no pairs, DataError if there are none."""
    if not isinstance(context.data, ImageTextPairs):
        raise ConfigError(
            f"the evaluator {evaluator} needs captions of pictures (@image_text_pairs()), not "
            f"{type(context.data).__name__}."
        )
    if not context.data.examples(1, context.seed):
        raise DataError(f"task {context.data.name} has no example in its heldout split.")
    return context.data


def corruption_of(
    context: EvaluationContext, evaluator: Any, loss: str = "diffusion_loss"
) -> Corruption:
    """Returns the noise that the run's objective trains by.

    Raises:
      ConfigError: if it has none, or the evaluator's `sampling` is not of it.
    """
    found = getattr(context.objective, "corruption", None)
    if found is None:
        raise ConfigError(
            f"the evaluator {evaluator.name} samples by the noise of the run's objective, and "
            f"{type(context.objective).__name__} has none; bind @{loss}()."
        )
    evaluator.sampling.check(found)
    return found


def verifier_of(pairs: ImageTextPairs, verified: bool) -> Callable[..., dict[str, Any]] | None:
    """Returns what reads pictures off, (record, picture) to scores; None where nothing is to be.

    A source that has several texts of a picture is told which of them it was made of.
    """
    if not verified:
        return None
    found = getattr(pairs.task.source, VERIFIERS["image"], None)
    if found is None:
        raise ConfigError(
            f"verified=True needs a source that verifies pictures, and "
            f"{type(pairs.task.source).__name__} has no method {VERIFIERS['image']}; set it to "
            "False."
        )
    if "text" in inspect.signature(found).parameters:
        return functools.partial(found, text=pairs.text)
    return found
