"""Pictures made by several runs, one after another: a prior, a decoder, upsamplers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.data.drawing import rows_to_draw
from jaxgen.errors import ConfigError
from jaxgen.evaluation.picture_arrays import make_arrays
from jaxgen.generation.diffusion.sampling import Given, PictureSampling
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.models.diffusion.conditioner_protocol import leaves_of
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.transfusion import RowsToDraw
from jaxgen.models.transfusion_config import TransfusionConfig
from jaxgen.ops.resizing import resize
from jaxgen.runs.config import RunConfig
from jaxgen.runs.encoders import encoder_of_captions
from jaxgen.runs.restoring import Restored, restore
from jaxgen.runs.warm_start import is_precomputed
from jaxgen.runs.written_vectors import VectorWriter, writer_of, writes_vectors


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run of a model that makes pictures from noise, and how it is sampled.

    Attributes:
      name: of its directory, for messages.
      model: the `DiffusionModel`, or `Transfusion`.
      corruption: that it was trained with.
      sampling: how pictures are made.
      data: gives the tokens of captions: `ImageTextPairs`, or data with a codec that draws; None
        for a model without a conditioner.
      length: of a caption, or of a row.
      encode: gives the states of captions' tokens to a model without the encoder; None: the data.
      source_length: of a caption by the data's second codec, if it has one.
    """

    name: str
    model: Any
    corruption: Any
    sampling: PictureSampling
    data: Any
    length: int
    encode: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]] | None = None
    source_length: int | None = None

    @property
    def num_steps(self) -> int:
        """How many steps the sampler takes."""
        return self.sampling.sampler.grid(self.corruption.schedule).steps

    @property
    def is_prior(self) -> bool:
        """Whether it makes vectors that stand for pictures, not pictures."""
        return self.model.latents is not None and not hasattr(self.model.latents, "to_pictures")

    @property
    def draws_in_rows(self) -> bool:
        """Whether it draws pictures after their captions in rows of tokens (Transfusion)."""
        return isinstance(self.model.config, TransfusionConfig)

    @property
    def low_size(self) -> int | None:
        """Rows and columns of the picture that it enlarges, or None."""
        upsampling = self.model.config.upsampling
        return None if upsampling is None else upsampling.low_size

    @property
    def reads_vectors(self) -> bool:
        """Whether it reads the vectors that a prior makes."""
        told = getattr(self.model.config, "conditioner", None)
        return any(getattr(one, "reads_vectors", False) for one in leaves_of(told))

    def prompts(
        self, captions: Sequence[str], embeddings: np.ndarray | None
    ) -> Prompts | RowsToDraw | None:
        """Returns what the model reads of captions, and of what a prior made of them."""
        if self.data is None:
            return None
        if self.draws_in_rows:
            codec = self.data.codec
            told = rows_to_draw([one or None for one in captions], codec, self.length)
            nothing = [None] * len(captions)
            return RowsToDraw(told, rows_to_draw(nothing, codec, self.length, told.shape[1]))
        told = self.data.told(captions, self.length, self.source_length, self.encode)
        return Prompts(**told, embeddings=embeddings)

    def make(
        self,
        captions: Sequence[str],
        embeddings: np.ndarray | None,
        seed: int,
        batch_size: int,
        numbers: Sequence[int],
        given: Given = Given(),
        **options: Any,
    ) -> np.ndarray:
        """Returns what it makes of captions, see `make_arrays`, whose options the last are.

        Args:
          captions: one a picture.
          embeddings: what a prior made of them, or None.
          seed: of the noise.
          batch_size: at a time.
          numbers: of the pictures, for their noise.
          given: what else pictures are made from.
          options: see there.
        """
        prompts, sampling = self.prompts(captions, embeddings), self.sampling
        return make_arrays(
            self.model,
            self.corruption,
            sampling,
            prompts,
            numbers,
            seed,
            batch_size,
            given,
            **options,
        )


def stage_of(restored: Restored) -> Stage | VectorWriter:
    """Returns a run as a stage, sampled as its evaluator does.

    Raises:
      ConfigError: if it is of another kind of model.
    """
    config = restored.config
    corruption = getattr(config.objective, "corruption", None)
    if writes_vectors(config.mixture):
        policies = [getattr(one, "policy", None) for one in config.evaluation.evaluators]
        found = [one for one in policies if isinstance(one, SamplingPolicy)]
        policy = found[0] if found else SamplingPolicy()
        name = str(restored.directory.path)
        return writer_of(name, restored.language_model, config.mixture, policy)
    if not makes_pictures(config) or corruption is None:
        raise ConfigError(
            f"{restored.directory.path} is a run of {type(config.model).__name__}; pictures are "
            "made by steps from noise by runs of @diffusion() with @diffusion_loss(), or of "
            "@transfusion() with @transfusion_loss()."
        )
    samplings = [getattr(one, "sampling", None) for one in config.evaluation.evaluators]
    found = [one for one in samplings if isinstance(one, PictureSampling)]
    data: Any = config.mixture
    is_told = restored.model.conditioner is not None
    return Stage(
        str(restored.directory.path),
        restored.model,
        corruption,
        found[0] if found else PictureSampling(),
        data if is_told else None,
        config.train.length,
        encoder_of_captions(config, restored.directory) if is_precomputed(config) else None,
        config.train.source_length,
    )


def makes_pictures(config: RunConfig) -> bool:
    """Returns whether a run's model makes pictures by steps from noise, or vectors for those."""
    is_stage = isinstance(config.model, DiffusionConfig | TransfusionConfig)
    return is_stage or writes_vectors(config.mixture)


def check_stages(stages: Sequence[Stage | VectorWriter]) -> None:
    """Raises ConfigError if what a stage makes is not what the next one reads."""
    for place, (stage, before) in enumerate(zip(stages, [None, *stages], strict=False)):
        if place == 0 and stage.low_size is not None:
            raise ConfigError(
                f"{stage.name} enlarges pictures, and nothing before it makes any; name the run "
                "that does first."
            )
        if before is not None and (stage.draws_in_rows or isinstance(stage, VectorWriter)):
            raise ConfigError(
                f"{stage.name} reads texts alone, and nothing of {before.name}; such a run is the "
                "first: --run_dir, not --then."
            )
        if isinstance(stage, Stage):
            _check_what_is_read(stage, stages[:place])
        if before is not None and stage.low_size is None and not before.is_prior:
            raise ConfigError(
                f"{stage.name} follows {before.name}, whose pictures it does not read: an "
                "upsampler has diffusion.upsampling, a decoder follows a prior."
            )
    if stages[-1].is_prior:
        raise ConfigError(
            f"{stages[-1].name} makes vectors of pictures; name a decoder's run after it."
        )


def _check_what_is_read(stage: Stage, earlier: Sequence[Stage | VectorWriter]) -> None:
    """Raises ConfigError if a stage has no vectors where it reads some, or another picture."""
    has_vectors = any(one.is_prior for one in earlier)
    if stage.reads_vectors and not has_vectors:
        raise ConfigError(
            f"{stage.name} reads the vectors of pictures (clip_conditioner.reads='images'), and no "
            "stage before it makes any; name the run of a prior first."
        )
    before = earlier[-1] if earlier else None
    if before is not None and before.is_prior and not stage.reads_vectors:
        raise ConfigError(
            f"{stage.name} follows {before.name}, whose vectors it does not read: a decoder has "
            "@clip_conditioner()."
        )
    if isinstance(before, Stage) and stage.low_size is not None and not before.is_prior:
        made = before.model.config.picture_size
        if made != stage.low_size:
            raise ConfigError(
                f"{stage.name} enlarges pictures of {stage.low_size} x {stage.low_size}, and "
                f"{before.name} makes some of {made} x {made}; name a run of that size before it."
            )


def run_stages(
    stages: Sequence[Stage | VectorWriter],
    captions: Sequence[str],
    numbers: Sequence[int],
    seed: int,
    batch_size: int,
    given: Given = Given(),
    on_step: Callable[[Any], None] | None = None,
    **options: Any,
) -> np.ndarray:
    """Returns the last stage's pictures, [captions, size, size, channels] from -1 to 1.

    Call under `jax.set_mesh`.

    Args:
      stages: in order.
      captions: one a picture.
      numbers: of the pictures, for their noise.
      seed: of the noise.
      batch_size: at a time.
      given: what the first stage is given.
      on_step: of `sample_pictures`, for every stage.
      options: of `sample_pictures`, for the first stage.
    """
    embeddings: np.ndarray | None = None
    pictures: np.ndarray | None = None
    for place, stage in enumerate(stages):
        if stage.low_size is not None and pictures is not None:
            given = Given(low=resize(pictures, stage.low_size))
        first = options if place == 0 else {}
        made = stage.make(
            captions, embeddings, seed + place, batch_size, numbers, given, on_step=on_step, **first
        )
        if stage.is_prior:
            embeddings = made.reshape(len(made), -1)
        else:
            pictures = np.clip(made, -1, 1)
        given = Given()
    assert pictures is not None
    return pictures


def read_run(
    run_dir: str | os.PathLike, mesh: jax.sharding.Mesh, **options: Any
) -> Stage | VectorWriter:
    """Returns a run as a stage; options are those of `runs.restoring.restore`."""
    return stage_of(restore(run_dir, mesh, **options))
