"""Features of pictures by the image tower of a run: what sets of pictures are compared by."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxgen.data.image_files import resize_image
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.evaluation.pairs import encode_images
from jaxgen.runs.restoring import restore


@dataclasses.dataclass(frozen=True)
class RunFeatures:
    """Vectors of length 1 by a contrastive run, trained here or imported (`jaxgen import` of CLIP).

    Attributes:
      run_dir: the run's directory.
      step: the checkpoint's; None: the newest.
      batch_size: pictures at a time.
    """

    run_dir: str
    step: PositiveInt | None = None
    batch_size: PositiveInt = 64

    def __post_init__(self):
        check_domains(self, "run_features")

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Returns [pictures, embed] of [pictures, height, width, 3] uint8; under `jax.set_mesh`.

        Raises:
          CheckpointError: if there is no such run.
          ConfigError: if it has no image tower.
        """
        restored = restore(self.run_dir, jax.sharding.get_mesh(), self.step)
        if not hasattr(restored.model, "encode_images"):
            raise ConfigError(
                f"run_features.run_dir={self.run_dir!r} is a run of "
                f"{type(restored.config.model).__name__}, which encodes no images; name a run of "
                "@dual_encoder()."
            )
        model: Any = restored.config.model
        size = model.vision.image_size
        resized = np.stack([resize_image(one, (size, size)) for one in pictures])
        return encode_images(restored.model, resized, self.batch_size)
