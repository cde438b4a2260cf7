"""The identity of a run: model, data, objective, training and evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.media import media_ranges
from jaxgen.data.base import DataConfig
from jaxgen.errors import ConfigError
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.media_batch import MediaBatch
from jaxgen.models.base import ModelConfig, language_model
from jaxgen.models.diffusion.conditioner_protocol import leaves_of
from jaxgen.objectives.base import Objective
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.attention.grids import grid_masks
from jaxgen.pair_batch import PairBatch
from jaxgen.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The identity of a run: equal configurations make equal runs, however they are executed.

    How it is executed is a `training.execution.ExecutionConfig`.

    Attributes:
      model: what is trained.
      mixture: the data, such as a mixture of tasks.
      train: length, batches, optimiser.
      objective: what is minimised; held-out losses are its "loss" metric.
      evaluation: what is scored, and when.
      name: what the run is called in tables and plots.
      version: told apart by a person; never "latest".
      initialize_from: the directory of a finished or imported run whose last parameters training
        begins with, with a fresh optimiser; a relative one is seen from the run's own directory, so
        "../base" is the run beside it. None: fresh parameters.
      initialize_parts: likewise for parts of the model by their names, such as the "critic" of a
        policy or a "teacher"; one of several conditioners is "conditioner.parts.0". A run of such a
        part alone is named, or one whose model has the same part.
    """

    model: ModelConfig
    mixture: DataConfig
    train: TrainConfig
    objective: Objective = NextToken()
    evaluation: EvaluationConfig = EvaluationConfig()
    name: str = "run"
    version: str = "1"
    initialize_from: str | None = None
    initialize_parts: Mapping[str, str] | None = None

    def __post_init__(self):
        if self.version == "latest" or not self.version:
            raise ConfigError("run.version must say which, such as '1'; 'latest' does not.")
        # A model that reads tokens says how many there are; others read another thing.
        codec_size, model = self.mixture.codec.vocab_size, language_model(self.model)
        vocab_size = getattr(model, "vocab_size", None)
        if vocab_size is not None and vocab_size < codec_size:
            raise ConfigError(
                f"model.vocab_size={vocab_size} cannot hold the codec's {codec_size} tokens; "
                f"set it to {-(-codec_size // 64) * 64}."
            )
        tables = getattr(model, "place_embeddings", (0, 0, 0))
        for one in media_ranges(self.mixture.codec):
            if any(rows and rows < count for rows, count in zip(tables, one.grid, strict=True)):
                raise ConfigError(
                    f"model.place_embeddings={tables} has fewer rows than the {one.grid} of the "
                    f"codec's {one.modality} (time, height, width); give as many or more, or 0."
                )
        _check_media(model, self.mixture.codec)
        _check_grids(model, self.mixture.codec)
        self._check_hears()
        self._check_encodings()
        train = self.train
        if self.evaluation.ema and train.ema_decay is None:
            raise ConfigError(
                "evaluation.ema=True scores averages of the parameters, which the run does not "
                "keep: set train.ema_decay, such as 0.999."
            )
        sizes = {"length": train.length, "source_length": train.source_length}
        self._check_pictures(self.model.batch_spec(batch_size=train.batch_size, **sizes), sizes)

    @property
    def rows_per_example(self) -> int:
        """Returns how many rows of tokens the model reads for each row of the batch size."""
        return getattr(self.mixture, "rows_per_example", 1)

    def _check_pictures(self, read: Any, sizes: dict[str, Any]) -> None:
        """Raises ConfigError if the model reads media of another shape than the data has."""
        if isinstance(read, PairBatch | MediaBatch):
            found = self.mixture.batch_spec(batch_size=self.train.batch_size, **sizes)
            shapes = [_media_of(one) for one in (read, found)]
            if None not in shapes and shapes[0] != shapes[1]:
                raise ConfigError(
                    f"the model reads media of shape {shapes[0]}, and {type(self.mixture).__name__}"
                    f" gives {shapes[1]}: set the model's size, or image_text_pairs.image_size (or "
                    "media_rows.shape)."
                )

    def _check_encodings(self) -> None:
        """Raises ConfigError unless what encoders made of captions is both given and read."""
        told = getattr(self.model, "conditioner", None)
        is_read = any(getattr(one, "precomputed", False) for one in leaves_of(told))
        given = getattr(self.mixture, "encodings", None)
        if is_read and given is None:
            raise ConfigError(
                "caption_encoder.precomputed=True reads what an encoder made of the captions: set "
                "image_text_pairs.encodings to a folder of `jaxgen prepare --captions`."
            )
        if given is not None and not is_read:
            raise ConfigError(
                f"image_text_pairs.encodings={given!r} is read by no part of the model: set "
                "caption_encoder.precomputed=True, or leave the encodings out."
            )

    def _check_hears(self) -> None:
        """Raises ConfigError if an encoder is to hear sounds that the data does not give."""
        if getattr(language_model(self.model), "sound", None) is None:
            return
        sizes = {"batch_size": self.train.batch_size, "length": self.train.length}
        if getattr(self.mixture.batch_spec(**sizes), "media", None) is None:
            raise ConfigError(
                "model.sound is an encoder of sounds, which no mixture of tasks gives to one yet: "
                "train on data of your own, whose batches have media['audio'], or let a decoder "
                "read sounds among its tokens (model.media, sound_vectors)."
            )


def _check_grids(model: Any, codec: Codec) -> None:
    """Raises ConfigError if a mask is for pictures of another grid than the codec's."""
    ranges = media_ranges(codec)
    if not ranges:
        return  # Of text alone nothing has a place.
    for mask in grid_masks(getattr(model, "kinds_of_layers", ())):
        there = ranges[mask.modality - 1].grid if mask.modality <= len(ranges) else None
        if there is None or there[1:] != (mask.height, mask.width):
            raise ConfigError(
                f"a layer's mask {mask} is for codes of {mask.height} x {mask.width} in the medium "
                f"number {mask.modality} of the codec, whose media have the grids (time, height, "
                f"width) {[one.grid for one in ranges]}; set its height, width and modality to one."
            )


def _check_media(model: Any, codec: Codec) -> None:
    """Raises ConfigError unless the model reads the media that the codec gives as vectors."""
    inputs = {one.modality: one for one in getattr(model, "media", ())}
    for one in media_ranges(codec):
        if one.form is None:
            if one.modality in inputs:
                raise ConfigError(
                    f"model.media has an input of {one.modality}, which the codec gives as codes: "
                    "leave the input out, or use a codec of vectors."
                )
            continue
        own = inputs.get(one.modality)
        if own is None:
            raise ConfigError(
                f"the codec gives each {one.modality} as vectors, and model.media reads "
                f"{sorted(inputs)}; bind model.media = [@media_input()] with one of it."
            )
        for what, ours, theirs in (
            ("media_input.token", own.token, one.first_id),
            ("vectors", own.num_vectors, one.size),
            ("columns of vectors", own.width, one.grid[2]),
            ("shape", own.encoder.input_shape, one.form.shape),
        ):
            if ours != theirs:
                raise ConfigError(
                    f"model.media has {what}={ours} for each {one.modality}, and the codec "
                    f"{theirs}; set both to the same."
                )


def _media_of(batch: Any) -> tuple[int, ...] | None:
    """Returns the shape of a row of pictures or sounds of a batch's specification."""
    found = getattr(batch, "images", None)
    found = getattr(batch, "values", None) if found is None else found
    return None if found is None else tuple(found.shape[1:])
