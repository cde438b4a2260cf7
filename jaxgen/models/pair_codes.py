"""A contrastive pair whose vectors are codes: principal components in buckets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.autoencoder import with_arrays
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.ops.principal import Principal, bucket_codes, vectors_of_codes

PAIR = "pair."
"""What the names of the pair's parameters begin with in a file."""


@dataclasses.dataclass(frozen=True)
class PairCodesConfig:
    """A pair's vectors as one code for each of their first principal components (2204.06125, 2.2).

    `jaxgen codec fit` finds the components in the vectors of a run's pictures. To `vector_codec`
    it is what an autoencoder is to `image_codec`.

    Attributes:
      pair: the contrastive pair.
      components: codes of a vector.
      buckets: of each component; the codes of all have the same ids.
    """

    pair: DualEncoderConfig
    components: PositiveInt = 319
    buckets: PositiveInt = 1024

    modality = "image"

    def __post_init__(self):
        check_domains(self, "pair_codes")
        if self.components > self.pair.embed_dim:
            raise ConfigError(
                f"pair_codes.components={self.components} are more than the numbers of a vector, "
                f"dual_encoder.embed_dim={self.pair.embed_dim}."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The height, width and channels of a picture."""
        vision = self.pair.vision
        return vision.image_size, vision.image_size, vision.channels

    @property
    def grid(self) -> tuple[int, int, int]:
        """The codes of a vector, in the order of the components."""
        return 1, 1, self.components

    @property
    def num_codes(self) -> int:
        """Different codes."""
        return self.buckets

    @property
    def identity(self) -> str:
        """A text of all that its parameters are for."""
        return repr(self)

    def restored(self, arrays: Mapping[str, np.ndarray]) -> PairCodes:
        """Returns the pair and its components, of arrays by name.

        Raises:
          ConfigError: if one is missing, or has another shape.
        """
        width, count = self.pair.embed_dim, self.components
        shapes = {"mean": (width,), "basis": (count, width), "low": (count,), "high": (count,)}
        found = {name: arrays.get(name) for name in shapes}
        if wrong := [n for n, one in found.items() if one is None or one.shape != shapes[n]]:
            raise ConfigError(
                f"the array {wrong[0]} is not there with the shape {shapes[wrong[0]]}: the file is "
                "of other components; fit them anew (`jaxgen codec fit`)."
            )
        own = {n.removeprefix(PAIR): one for n, one in arrays.items() if n.startswith(PAIR)}
        principal = Principal(**{name: jnp.asarray(one) for name, one in found.items()})
        return PairCodes(with_arrays(self.pair, own, "dual_encoder"), principal, self.buckets)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairCodes:
    """A pair and the components of its vectors.

    Attributes:
      pair: the `DualEncoder`.
      principal: the components.
      buckets: of each.
    """

    pair: Any
    principal: Principal
    buckets: int = dataclasses.field(metadata={"static": True})

    def encode(self, pictures: jax.Array) -> jax.Array:
        """Returns the codes of uint8 pictures, [batch, components] int32."""
        return bucket_codes(self.principal, self.pair.encode_images(pictures), self.buckets)

    def encode_texts(self, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        """Returns the codes of the vectors of captions; see `PairBatch`."""
        vectors = self.pair.encode_texts(tokens, lengths)
        return bucket_codes(self.principal, vectors, self.buckets)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Returns the vectors [batch, width] that codes stand for; about of length 1."""
        return vectors_of_codes(self.principal, codes, self.buckets)
