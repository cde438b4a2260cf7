"""The evaluator of cascades: pictures of held-out captions by runs that follow one another."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxgen.domains import NonNegativeInt, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.made_pictures import corruption_of, pairs_of, picture_rows
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.ops.pixels import as_pixels
from jaxgen.runs.cascades import Stage, check_stages, makes_pictures, read_run, run_stages
from jaxgen.runs.restoring import read_record


@dataclasses.dataclass(frozen=True)
class CascadePictures:
    """Makes pictures of held-out captions by runs that follow one another, the last this one's.

    Attributes:
      run_dirs: of the stages before this run, in order, seen from the current folder.
      sampling: of this run.
      num_examples: captions.
      verified: whether the source reads off what was made.
      shown: instances whose picture is kept in the rows, beside the record's own.
      name: the name in tables.
    """

    run_dirs: tuple[str, ...]
    sampling: PictureSampling = PictureSampling()
    num_examples: PositiveInt = 128
    verified: bool = True
    shown: NonNegativeInt = 32
    name: str = "cascade_pictures"

    def __post_init__(self):
        check_domains(self, "cascade_pictures")

    def check(self, context: EvaluationContext) -> None:
        """Raises JaxgenError if there are no captions, or a run before this one is not there."""
        pairs_of(context, self.name)
        corruption_of(context, self)
        for path in self.run_dirs:
            if not makes_pictures(read_record(path)[1]):
                raise ConfigError(
                    f"cascade_pictures.run_dirs has {path}, which makes no pictures from noise, "
                    "nor vectors for those."
                )

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row a caption; see `evaluation.made_pictures.picture_rows`."""
        pairs = pairs_of(context, self.name)
        records = pairs.examples(self.num_examples, context.seed)
        mesh = jax.sharding.get_mesh()
        stages = [read_run(path, mesh, ema=None) for path in self.run_dirs]
        own = Stage(
            "this run",
            model,
            corruption_of(context, self),
            self.sampling,
            pairs,
            context.length,
            source_length=context.source_length,
        )
        stages.append(own)
        check_stages(stages)
        captions = pairs.captions(records)
        made = run_stages(stages, captions, range(len(captions)), context.seed, context.batch_size)
        return picture_rows(pairs, records, as_pixels(made), self.verified, self.shown)
