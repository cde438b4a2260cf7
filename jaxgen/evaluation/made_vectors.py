"""The evaluator of priors: vectors of held-out captions beside those of their own pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.made_pictures import corruption_of, pairs_of
from jaxgen.evaluation.pairs import in_batches
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.ops.pixels import as_numbers


@dataclasses.dataclass(frozen=True)
class MadeVectors:
    """Makes the vectors of held-out captions' pictures, and compares them with the true ones.

    Attributes:
      sampling: how vectors are made.
      num_examples: captions.
      name: the name in tables.
    """

    sampling: PictureSampling = PictureSampling()
    num_examples: PositiveInt = 128
    name: str = "made_vectors"

    def __post_init__(self):
        check_domains(self, "made_vectors")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no captions of pictures."""
        pairs_of(context, self.name)
        corruption_of(context, self)

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption.

        Returns:
          Rows with "instance"; "cosine" of the vector that was made and the picture's; "found",
          whether no picture of another caption is as near; and "chance" of that.
        """
        if model.latents is None or hasattr(model.latents, "to_pictures"):
            raise ConfigError(
                f"the evaluator {self.name} is of priors (diffusion.latents = @clip_latents()); "
                "pictures are evaluated by @made_pictures()."
            )
        pairs = pairs_of(context, self.name)
        records = pairs.examples(self.num_examples, context.seed)
        captions = pairs.captions(records)
        told = pairs.told(captions, context.length, context.source_length)
        made = make_arrays(
            model,
            corruption_of(context, self),
            self.sampling,
            Prompts(**told),
            range(len(records)),
            context.seed,
            context.batch_size,
        )
        pictures = as_numbers(pairs.pixels(records))
        true = in_batches(_vectors, model, (pictures,), context.batch_size)
        near = _unit(made) @ _unit(true).T
        own = np.diagonal(near)
        _, kinds = np.unique(captions, return_inverse=True)
        is_other = kinds[:, None] != kinds
        return [
            {
                "instance": instance_of(record, place),
                "cosine": float(own[place]),
                "found": int(not (near[place] >= own[place])[is_other[place]].any()),
                "chance": 1 / (kinds.max() + 1),
            }
            for place, record in enumerate(records)
        ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    flat = vectors.reshape(len(vectors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


@jax.jit
def _vectors(model: Any, pictures: jax.Array) -> jax.Array:
    return model.encode(pictures)
