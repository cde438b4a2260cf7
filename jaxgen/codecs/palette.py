"""Palettes: pictures, clips and sounds as the nearest of a few hundred patches or frames.

A palette is found by k-means in some examples, without a network: it is the simplest codec of
media, as the palette of colours of Image GPT (Chen et al., 2020) is, whose patches have one pixel.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any, ClassVar

import numpy as np

from jaxgen.codecs.kept_file import KeptFile
from jaxgen.codecs.media import Grid, Media, Modality
from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.patches import patches_of
from jaxgen.domains import check_domains
from jaxgen.errors import DataError
from jaxgen.files import write_atomically

COMPARED_AT_ONCE = 4096
"""Vectors whose distances to all of a palette are worked out at a time."""
ROUNDS = 30
"""Of k-means."""


class Palette(KeptFile):
    """The base of palettes of one modality.

    The file is of safetensors: `vectors`, [num_codes, vector_size] float32, and what they are of.
    """

    WHAT: ClassVar[str] = "palette"
    MADE_BY: ClassVar[str] = "jaxgen palette train"

    @property
    def modality(self) -> Modality:
        raise NotImplementedError

    @property
    def varies(self) -> bool:
        return False

    @property
    def vector_size(self) -> int:
        """Returns the numbers of a vector."""
        raise NotImplementedError

    @property
    def made_for(self) -> str:
        """Returns what the palette's file must have been made for; see `made_for`."""
        raise NotImplementedError

    @property
    def grid(self) -> Grid:
        raise NotImplementedError

    def vectors_of(self, values: np.ndarray) -> np.ndarray:
        """Returns [n, vector_size] float32, of which the nearest of the palette are the codes."""
        raise NotImplementedError

    def values_of(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the picture, clip or sound of vectors."""
        raise NotImplementedError

    def _check(self, name: str) -> None:
        check_domains(self, name)
        self.read_digest()

    @functools.cached_property
    def vectors(self) -> np.ndarray:
        """Returns the palette [num_codes, vector_size] float32.

        Raises:
          DataError: if the file is no palette, or one for other patches or frames.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "numpy") as file:
                found = (file.metadata() or {}).get("made_for")
                table = file.get_tensor("vectors")
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self.path} is not a palette; `jaxgen palette train` makes one: {error}."
            ) from error
        if found != self.made_for:
            raise DataError(
                f"the palette {self.path} is for {found}, and this codec for {self.made_for}: set "
                "the codec to the former, or make another palette."
            )
        is_table = table.dtype == np.float32 and table.shape[1:] == (self.vector_size,)
        if not is_table or not len(table) or not np.isfinite(table).all():
            raise DataError(
                f"the palette {self.path} has {table.dtype} of {table.shape}, not one or more "
                f"finite float32 vectors of {self.vector_size}: make it anew."
            )
        return table

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "vectors"}

    @property
    def num_codes(self) -> int:
        """Returns the number of vectors."""
        return len(self.vectors)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the number of the nearest vector of each; see `MediaCodec.encode`."""
        return nearest(self.vectors_of(values), self.vectors)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns what the codes stand for; see `MediaCodec.decode`."""
        return self.values_of(self.vectors[np.asarray(codes)])


def made_for(modality: Modality, patch: tuple[int, ...] = (), mel: MelFrames | None = None) -> str:
    """Returns a text of what a palette's vectors are: patches of a size, or frames of settings."""
    settings = {"patch": patch} if mel is None else {"mel": dataclasses.asdict(mel)}
    return json.dumps({"modality": modality, **settings})


def train_palette(
    vectors: np.ndarray, num_codes: int, path: str, made_for: str, seed: int = 0
) -> np.ndarray:
    """Finds a palette by k-means and writes it.

    Where there are no more different vectors than codes, these are the palette, with nothing lost.

    Args:
      vectors: [n, vector_size] float32.
      num_codes: at most so many.
      path: of the file.
      made_for: what the vectors are, see the function of this name.
      seed: of the first guess.

    Returns:
      The palette, [codes, vector_size] float32.

    Raises:
      JaxgenError: if there are no vectors, or the file cannot be written.
    """
    import safetensors.numpy
    from scipy.cluster.vq import kmeans2

    if not len(vectors):
        raise DataError("there are no vectors to make a palette of.")
    table, counts = np.unique(vectors, axis=0, return_counts=True)
    if len(table) > num_codes:
        # Frequent vectors first, as a guess: k-means by sampling may miss rare ones for long.
        rng = np.random.Generator(np.random.Philox(key=seed))
        order = np.lexsort((rng.random(len(table)), -counts))
        start = table[order[:num_codes]]
        table, _ = kmeans2(vectors, start, iter=ROUNDS, minit="matrix", missing="warn")
    table = np.ascontiguousarray(table, np.float32)
    content = safetensors.numpy.save({"vectors": table}, {"made_for": made_for})
    write_atomically(pathlib.Path(path), content)
    return table


def palette_vectors(
    media: Media, patch: tuple[int, ...] | None = None, mel: MelFrames | None = None
) -> np.ndarray:
    """Returns the vectors of a picture, clip or sound that a palette is made of: [n, vector_size].

    Args:
      media: what they are of.
      patch: rows and columns, of a clip frames before them.
      mel: of a sound.

    Raises:
      DataError: if the patch is not of a picture or clip.
    """
    if media.modality == "audio":
        return (MelFrames() if mel is None else mel).encode(media.values)
    size = whole_patch(media.modality, patch)
    values = media.values[None] if media.modality == "image" else media.values
    return patches_of(unit_values(values), size)


def whole_patch(modality: Modality, patch: tuple[int, ...] | None) -> tuple[int, int, int]:
    """Returns frames, rows and columns of a patch.

    Raises:
      DataError: if the patch is not of a picture or clip.
    """
    size = (1, *(patch or ())) if modality == "image" else tuple(patch or ())
    if len(size) != 3:
        form = "ROWSxCOLUMNS" if modality == "image" else "FRAMESxROWSxCOLUMNS"
        raise DataError(f"a palette of {modality} needs a patch: give --patch={form}.")
    return size


def nearest(vectors: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Returns the row of a table [codes, vector_size] that is nearest to each vector: [n] int32."""
    norms = np.square(table).sum(axis=1)
    found = [
        np.argmin(norms - 2 * vectors[first : first + COMPARED_AT_ONCE] @ table.T, axis=1)
        for first in range(0, len(vectors), COMPARED_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)


def unit_values(values: np.ndarray) -> np.ndarray:
    """Returns pixels as float32 from 0 to 1."""
    return values.astype(np.float32) / 255
