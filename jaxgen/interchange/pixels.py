"""A preprocessor_config.json: what is done to the pixels of images before a model sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxgen.interchange.entries import checked
from jaxgen.interchange.tables import Values
from jaxgen.models.dual_encoder_config import DualEncoderConfig


def read_pixels(config: DualEncoderConfig, values: Values) -> DualEncoderConfig:
    """Returns the pair with the mean and standard deviation of its pixels."""
    if values.get("do_normalize") is False:
        average, spread = (0.0,), (1.0,)
    else:
        vision = config.vision
        average = _channels(values, "image_mean", vision.pixel_mean)
        spread = _channels(values, "image_std", vision.pixel_stddev)
    vision = dataclasses.replace(config.vision, pixel_mean=average, pixel_stddev=spread)
    return dataclasses.replace(config, vision=vision)


def _channels(values: Values, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    found = values.get(key)
    if found is None:
        return default
    return tuple(checked(key, one, (float,)) for one in checked(key, found, (list,)))


def write_pixels(kind: str, crops: bool) -> Callable[[DualEncoderConfig], dict[str, Any]]:
    """Returns what writes the file of an image processor of a class.

    Args:
      kind: the class's name.
      crops: whether it cuts out an image's middle, or changes height and width by themselves.
    """

    def write(config: DualEncoderConfig) -> dict[str, Any]:
        vision, size = config.vision, config.vision.image_size
        whole = {"height": size, "width": size}
        mean, spread = (
            list(x) if len(x) > 1 else list(x) * vision.channels
            for x in (vision.pixel_mean, vision.pixel_stddev)
        )
        values = {
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
