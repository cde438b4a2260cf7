"""A codec of the vectors of a contrastive pair, as DALL-E 2's written prior has them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from jaxgen.codecs.learned import AutoencoderLike, PictureCodec, on_cpu
from jaxgen.errors import DataError


@dataclasses.dataclass(frozen=True)
class VectorCodec(PictureCodec):
    """Pictures as the codes of their vectors in a contrastive pair's space (2204.06125, 2.2).

    A vector of that space, such as a caption's, has codes too, and what codes stand for is a
    vector: a decoder makes the picture (`jaxgen generate --then`).

    Attributes:
      path: of a file of `jaxgen codec fit`.
      autoencoder: `@pair_codes()`, that the file was fitted for.
      digest: its sha256, checked when it is read; None takes the file's own.
    """

    path: str = dataclasses.field(compare=False)
    autoencoder: AutoencoderLike
    digest: str = None  # pyright: ignore[reportAssignmentType]

    MADE_BY: ClassVar[str] = "jaxgen codec fit"
    NAME: ClassVar[str] = "vector_codec"
    KEPT_FILES: ClassVar[dict[str, str]] = {"path": "vector_codec.safetensors"}

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the codes of a picture's vector, or the codes that `text_codes` gave.

        Raises:
          DataError: if the values are neither.
        """
        codes, shape = self.grid[2], self.autoencoder.shape
        if values.shape == (codes,) and values.dtype == np.int32:
            return values
        if values.shape != shape or values.dtype != np.uint8:
            raise DataError(
                f"a picture is {values.dtype} of {'x'.join(map(str, values.shape))}, and the pair "
                f"of its codec reads uint8 of {'x'.join(map(str, shape))}: resize it "
                "(decode_media.height, width)."
            )
        return self._codes(values)

    def text_codes(self, tokens: np.ndarray, length: int) -> np.ndarray:
        """Returns the codes of the vector of a caption.

        Args:
          tokens: [most tokens] int32, padded.
          length: how many are the caption's.
        """
        model = self._model
        with on_cpu():
            found = _encode_texts(model, tokens[None], np.array([length], np.int32))
            return np.asarray(found)[0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the vector of codes, float32 [width]."""
        return self._row(codes)


@jax.jit
def _encode_texts(model: Any, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    return model.encode_texts(tokens, lengths)
