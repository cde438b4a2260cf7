"""Pictures of records made smaller or larger, by the filter that upsamplers see in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxgen.data.preprocessors import need
from jaxgen.data.protocols import Context, Record
from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import DataError
from jaxgen.ops.resizing import resize


@dataclasses.dataclass(frozen=True)
class ResizeImages:
    """Makes a field's square pictures of one size; see `ops.resizing`.

    Attributes:
      size: rows and columns.
      field: uint8 [size, size, channels].
    """

    size: PositiveInt
    field: str = "image"

    def __post_init__(self):
        check_domains(self, "resize_images")

    def apply(self, records: Iterator[Record], context: Context) -> Iterator[Record]:
        """Yields the records with the picture in its new size."""
        del context
        for record in records:
            yield record | {self.field: self._resized(need(record, self.field, "resize_images"))}

    def _resized(self, image: np.ndarray) -> np.ndarray:
        shape = getattr(image, "shape", ())
        if len(shape) != 3 or shape[0] != shape[1]:
            raise DataError(
                f"resize_images.field={self.field!r} is of shape {shape}, not a square picture; "
                "cut it first (decode_media.height, .width)."
            )
        (numbers,) = resize(image[None].astype(np.float64), self.size)
        return (numbers + 0.5).astype(np.uint8)
