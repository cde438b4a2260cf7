"""Bottlenecks of autoencoders: what an encoder gives for a place becomes one of a few codes.

A bottleneck is a frozen dataclass without parameters. The matrix that a decoder begins with reads
its vectors: of one-hot vectors, its rows are the codebook.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.ops.finite_scalar import codes_of, num_codes, quantise, vectors_of
from jaxgen.ops.gumbel import gumbel_softmax, kl_to_uniform

MOST_CODES = 2**24


class Quantised(NamedTuple):
    """What a bottleneck gives.

    Attributes:
      vectors: [..., output_width], what the decoder reads.
      codes: [...] int32.
      kl: [...] float32, the divergence of the codes' distribution from the uniform one in nats;
        None where codes are not drawn.
    """

    vectors: Any
    codes: Any
    kl: Any


@runtime_checkable
class Bottleneck(Protocol):
    """Turns numbers into codes, and codes into what a decoder reads.

    Attributes:
      num_codes: codes lie in [0, num_codes).
      input_width: numbers that the encoder gives for a code.
      output_width: numbers that the decoder reads.
    """

    @property
    def num_codes(self) -> int: ...

    @property
    def input_width(self) -> int: ...

    @property
    def output_width(self) -> int: ...

    def quantise(self, x: jax.Array, key: jax.Array | None, temperature: Any) -> Quantised:
        """Returns the codes of float32 [..., input_width]; `key` is that of a training pass."""
        ...

    def vectors_of(self, codes: jax.Array) -> jax.Array:
        """Returns what a decoder reads of codes: [..., output_width] float32."""
        ...


@dataclasses.dataclass(frozen=True)
class FiniteScalar:
    """Rounds each of a few numbers to levels (FSQ, 2309.15505); see `ops.finite_scalar`.

    Attributes:
      levels: of each number; their product is the number of codes.
    """

    levels: tuple[PositiveInt, ...] = (8, 5, 5, 5)

    def __post_init__(self):
        check_domains(self, "finite_scalar")
        if num_codes(self.levels) > MOST_CODES:
            raise ConfigError(
                f"finite_scalar.levels={self.levels} are more codes than {MOST_CODES:,}, which no "
                "vocabulary has rows for; use fewer or smaller ones."
            )

    @property
    def num_codes(self) -> int:
        """Returns the product of the levels."""
        return num_codes(self.levels)

    @property
    def input_width(self) -> int:
        """Returns a number for each entry of the levels."""
        return len(self.levels)

    @property
    def output_width(self) -> int:
        """Returns a number for each entry of the levels."""
        return len(self.levels)

    def quantise(self, x: jax.Array, key: jax.Array | None, temperature: Any) -> Quantised:
        """Returns the rounded numbers, whose gradient is that of the bound before rounding."""
        del key, temperature
        vectors = quantise(x, self.levels)
        return Quantised(vectors, codes_of(vectors, self.levels), None)

    def vectors_of(self, codes: jax.Array) -> jax.Array:
        """Returns the levels of each code, between -1 and 1."""
        return vectors_of(codes, self.levels)


@dataclasses.dataclass(frozen=True)
class GumbelCodebook:
    """Draws one of many codes, softly while training (the discrete VAE of DALL-E, 2102.12092).

    Attributes:
      size: codes there are.
    """

    size: PositiveInt = 8192

    def __post_init__(self):
        check_domains(self, "gumbel_codebook")
        if self.size < 2:
            raise ConfigError(f"gumbel_codebook.size={self.size} leaves no choice; use 2 or more.")

    @property
    def num_codes(self) -> int:
        """Returns the size."""
        return self.size

    @property
    def input_width(self) -> int:
        """Returns a logit for each code."""
        return self.size

    @property
    def output_width(self) -> int:
        """Returns a weight for each code."""
        return self.size

    def quantise(self, x: jax.Array, key: jax.Array | None, temperature: Any) -> Quantised:
        """Returns soft weights of a draw in a training pass, and the likeliest code otherwise."""
        codes = jnp.argmax(x, axis=-1).astype(jnp.int32)
        soft = self.vectors_of(codes) if key is None else gumbel_softmax(x, key, temperature)
        return Quantised(soft, codes, kl_to_uniform(x))

    def vectors_of(self, codes: jax.Array) -> jax.Array:
        """Returns one-hot vectors."""
        return jax.nn.one_hot(codes, self.size)
