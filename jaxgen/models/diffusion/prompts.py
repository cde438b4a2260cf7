"""What pictures are asked for by: captions, classes, or vectors that stand for the picture."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError
from jaxgen.pair_batch import Captions, RowArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prompts:
    """A prompt for each picture.

    Attributes:
      tokens: [batch, length] int32, a caption as `PairBatch` has it, or a class's number,
        [batch, 1].
      lengths: [batch] int32.
      images: uint8 [batch, height, width, channels], the pictures themselves, in training.
      embeddings: float32 [batch, width], the vectors of pictures in place of those, in use.
      states: see `PairBatch`, of captions that were read before.
      empty_states: likewise.
      second: see `PairBatch`, captions by the data's second codec.
    """

    tokens: RowArray
    lengths: RowArray
    images: RowArray = None
    embeddings: RowArray = None
    states: RowArray = None
    empty_states: RowArray = None
    second: Captions | None = None

    def captions(self, codec: Literal["first", "second"]) -> Captions:
        """Returns the captions by one of the data's codecs.

        Raises:
          ConfigError: if there are none by the second.
        """
        if codec == "first":
            return Captions(self.tokens, self.lengths, *self.empty_captions)
        if self.second is None:
            raise ConfigError(
                "caption_encoder.codec='second' reads captions by a second codec, and the data has "
                "one: set image_text_pairs.second_codec and train.source_length."
            )
        return self.second

    @property
    def empty_captions(self) -> tuple[Any, Any]:
        """The tokens and lengths of captions of a begin and an end token alone."""
        place = jnp.arange(self.tokens.shape[1])
        ends = jnp.sum(jnp.where(place == self.lengths[:, None] - 1, self.tokens, 0), axis=1)
        # Beyond its end a caption is padded; where none is short enough to show with what, by 0.
        after = jnp.where(place == self.lengths[:, None], self.tokens, 0)
        padding = jnp.max(after, axis=1, keepdims=True)
        first, second = self.tokens[:, :1], ends[:, None]
        tokens = jnp.where(place == 0, first, jnp.where(place == 1, second, padding))
        return tokens, jnp.full_like(self.lengths, 2)


def prompts_of(batch: Any) -> Prompts | None:
    """Returns the prompts of a batch of pairs; of pictures alone there are none."""
    if not hasattr(batch, "tokens"):
        return None
    states = batch.states, batch.empty_states
    return Prompts(batch.tokens, batch.lengths, batch.images, None, *states, batch.second)


def pictures_of(batch: Any) -> Any:
    """Returns the pictures of a batch of pairs, or of pictures alone."""
    return batch.images if hasattr(batch, "images") else batch.values
