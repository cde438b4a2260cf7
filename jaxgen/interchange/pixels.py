"""A preprocessor_config.json: what is done to the pixels of images before a model sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxgen.interchange.entries import checked, get_field
from jaxgen.interchange.tables import Values
from jaxgen.models.config import TransformerConfig
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.vision import VisionConfig


def read_pixels(config: DualEncoderConfig, values: Values) -> DualEncoderConfig:
    """Returns the pair with the mean and standard deviation of its pixels."""
    return dataclasses.replace(config, vision=_with_pixels(config.vision, values))


def read_media_pixels(config: TransformerConfig, values: Values) -> TransformerConfig:
    """Returns the model with the mean and standard deviation of the pixels that it reads."""
    (one,) = config.media
    encoder: Any = one.encoder
    one = dataclasses.replace(one, encoder=_with_pixels(encoder, values))
    return dataclasses.replace(config, media=(one,))


def _with_pixels(vision: VisionConfig, values: Values) -> VisionConfig:
    if values.get("do_normalize") is False:
        average, spread = (0.0,), (1.0,)
    else:
        average = _channels(values, "image_mean", vision.pixel_mean)
        spread = _channels(values, "image_std", vision.pixel_stddev)
    return dataclasses.replace(vision, pixel_mean=average, pixel_stddev=spread)


def _channels(values: Values, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    found = values.get(key)
    if found is None:
        return default
    return tuple(checked(key, one, (float,)) for one in checked(key, found, (list,)))


def write_pixels(
    kind: str, crops: bool, part: str = "vision", more: Mapping[str, Any] | None = None
) -> Callable[[Any], dict[str, Any]]:
    """Returns what writes the file of an image processor of a class.

    Args:
      kind: the class's name.
      crops: whether it cuts out an image's middle, or changes height and width by themselves.
      part: the dotted name of the vision encoder in a configuration.
      more: further keys.
    """

    def write(config: Any) -> dict[str, Any]:
        vision = get_field(config, part)
        size = vision.image_size
        whole = {"height": size, "width": size}
        mean, spread = (
            list(x) if len(x) > 1 else list(x) * vision.channels
            for x in (vision.pixel_mean, vision.pixel_stddev)
        )
        values = dict(more or {}) | {
            "image_processor_type": kind,
            "do_resize": True,
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": mean,
            "image_std": spread,
        }
        if crops:
            return values | {
                "size": {"shortest_edge": size}, "do_center_crop": True, "crop_size": whole,
            }  # fmt: skip
        return values | {"size": whole}

    return write
