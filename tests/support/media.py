"""Small codecs of pictures and sounds, without files of their own."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np

from jaxgen.batch import Batch
from jaxgen.codecs.media import Grid, Media, Modality, modality_names
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.data.loading import as_batch
from jaxgen.data.packing import RowShape, pack_row
from jaxgen.data.parts import ANSWER, IN_LOSS, Example
from jaxgen.data.segments import example_segment


@dataclasses.dataclass(frozen=True)
class Greys:
    """Pictures as four levels of grey, one code a pixel."""

    rows: int = 2
    columns: int = 3

    modality: Modality = "image"
    num_codes: int = 4
    varies: bool = False
    digest: str = "greys"

    @property
    def grid(self) -> Grid:
        return 1, self.rows, self.columns

    def encode(self, values: np.ndarray) -> np.ndarray:
        return (values[..., 0].ravel() // 64).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        grey = (codes.reshape(self.rows, self.columns, 1) * 64).astype(np.uint8)
        return np.repeat(grey, 3, axis=-1)

    def keep_in(self, folder: pathlib.Path) -> None:
        """Nothing is to be kept."""


@dataclasses.dataclass(frozen=True)
class Signs:
    """Sounds as the signs of up to five samples."""

    modality: Modality = "audio"
    num_codes: int = 2
    grid: Grid = (5, 1, 1)
    varies: bool = True
    digest: str = "signs"

    def encode(self, values: np.ndarray) -> np.ndarray:
        return (values > 0).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return (2 * codes - 1).astype(np.float32)

    def keep_in(self, folder: pathlib.Path) -> None:
        """Nothing is to be kept."""


CODEC = MultimodalCodec(media=(Greys(), Signs()))
BEGIN, END = (CODEC.special_id(f"<|image_{edge}|>") for edge in ("begin", "end"))
FIRST = CODEC.text.vocab_size
"""The id of the darkest grey; the signs come after the greys."""


def picture(*levels: int, rows: int = 2) -> np.ndarray:
    """A picture of these levels of grey."""
    return Greys(rows, len(levels) // rows).decode(np.array(levels))


def record(name: str, levels: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """A captioned picture."""
    return {"key": name, "caption": name, "image": picture(*levels), **more}


def rows_of_pictures(batch_size: int = 8, length: int = 32) -> Batch:
    """Rows of two texts with their pictures, then padding; no two rows alike."""
    shape, rows = RowShape(length, has_media=True), []
    for number in range(batch_size):
        segments = []
        for place in range(2):
            levels = np.random.default_rng(2 * number + place).integers(0, 4, 6)
            image = CODEC.encode_media(Media("image", picture(*levels.tolist())))
            text = CODEC.encode("abcdef"[: 1 + (number + place) % 3])
            flags = np.repeat([IN_LOSS, IN_LOSS | ANSWER], [len(text), len(image)])
            example = Example(np.concatenate([text, image]), flags.astype(np.uint8))
            segments.append(example_segment(example, CODEC, has_source=False))
        row = pack_row(segments, shape, CODEC.pad_id)
        row["task_ids"] = (row["segment_ids"] == 2).astype(np.int32)
        rows.append(row)
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return as_batch(arrays, ("first", "second"), modality_names(CODEC))
