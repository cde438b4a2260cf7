"""Positions of tokens, told by rotation (RoPE), by sines or by growth of the queries."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import (
    Domain,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError
from jaxgen.sharding.rules import mesh_is_set


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """A stretch of rotary frequencies for rows longer than those first trained on.

    Attributes:
      kind: "linear" divides positions (2306.15595); "ntk" raises the base instead; "llama3" divides
        slow frequencies only (Llama 3, 2407.21783); "yarn" does so between two rotation counts
        (2309.00071); "dynamic" raises the base in rows longer than `original_length`, the more the
        longer they are; "longrope" divides each frequency by its own number, in longer rows by
        another (2402.13753). A row is as long as its last position tells, or the cache it is in.
      factor: by how much.
      original_length: of the rows first trained on; of all but "linear" and "ntk".
      low, high: the band of wavelengths or rotations in which the stretch fades in: "llama3" names
        them low and high frequency factors (1, 4), "yarn" beta slow and fast (1, 32).
      magnitude: "yarn" scales cosine and sine by 0.1 * magnitude * ln(factor) + 1, over the same of
        `logit_magnitude`; "longrope" scales them by `magnitude` itself.
      logit_magnitude: "yarn" scales attention's logits by the square of the same.
      truncate: whether the band of "yarn" is rounded to whole frequencies.
      short, long: of "longrope", a divisor for each frequency, in rows up to `original_length` and
        in longer ones.
    """

    kind: Literal["linear", "ntk", "llama3", "yarn", "dynamic", "longrope"]
    factor: Annotated[float, Domain(1)] = 1.0
    original_length: NonNegativeInt = 0
    low: PositiveFloat = 1.0
    high: PositiveFloat = 4.0
    magnitude: Annotated[float, Domain(-1000, 1000)] = 1.0
    logit_magnitude: NonNegativeFloat = 0.0
    truncate: bool = True
    short: tuple[PositiveFloat, ...] = ()
    long: tuple[PositiveFloat, ...] = ()

    def __post_init__(self):
        check_domains(self, "rope_scaling")
        if self.low > self.high:
            raise ConfigError(
                f"rope_scaling.low={self.low} must be at most rope_scaling.high={self.high}."
            )
        if self.kind not in ("linear", "ntk") and self.original_length < 1:
            raise ConfigError(f"rope_scaling.kind={self.kind!r} needs original_length.")

    def frequencies(self, dim: int, base: float, length: Any = None) -> Any:
        """Returns [dim / 2] float64, radians a position.

        Where the length of rows matters and is given as an array, one axis more than it has.
        """
        if self.kind == "longrope" and not len(self.short) == len(self.long) == dim // 2:
            raise ConfigError(
                f"rope_scaling.short and long have {len(self.short)} and {len(self.long)} divisors "
                f"for {dim // 2} frequencies."
            )
        if length is not None and self.kind == "dynamic":
            stretch = jnp.maximum(length / self.original_length, 1.0)
            grown = base * (self.factor * stretch - (self.factor - 1)) ** (dim / (dim - 2))
            return grown[..., None] ** jnp.asarray(-np.arange(0, dim, 2) / dim, jnp.float32)
        if self.kind == "ntk":
            return _frequencies(dim, base * self.factor ** (dim / (dim - 2)))
        plain = _frequencies(dim, base)
        if self.kind == "linear":
            return plain / self.factor
        if self.kind == "dynamic":
            return plain
        if self.kind == "longrope":
            near, far = plain / np.array(self.short), plain / np.array(self.long)
            if length is None:
                return near
            is_longer = length[..., None] > self.original_length
            return jnp.where(is_longer, far.astype(np.float32), near.astype(np.float32))
        if self.kind == "llama3":
            rotations = self.original_length * plain / (2 * math.pi)
            # Llama 4 Scout has both at 1: a step.
            width = max(self.high - self.low, 1e-9)
            keep = np.clip((rotations - self.low) / width, 0, 1)
            return plain * keep + plain / self.factor * (1 - keep)

        def index_of(rotations: float) -> float:
            wavelength = self.original_length / (rotations * 2 * math.pi)
            return dim * math.log(wavelength) / (2 * math.log(base))

        first, last = index_of(self.high), index_of(self.low)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, dim - 1)
        slow = np.clip((np.arange(dim // 2) - first) / max(last - first, 0.001), 0, 1)
        return plain * (1 - slow) + plain / self.factor * slow

    def magnification(self) -> float:
        """Returns the factor on cosine and sine."""
        if self.kind == "longrope":
            return self.magnitude
        return self._growth(self.magnitude) / self._growth(self.logit_magnitude)

    def logit_factor(self) -> float:
        """Returns the factor on attention's logits."""
        return self._growth(self.logit_magnitude) ** 2

    def _growth(self, magnitude: float) -> float:
        return 1 + 0.1 * magnitude * math.log(self.factor) if self.kind == "yarn" else 1.0


@dataclasses.dataclass(frozen=True)
class Rope:
    """Rotary positions (2104.09864).

    Attributes:
      base: the slowest wavelength's base.
      fraction: share of a head's width that is rotated, from its start.
      interleaved: whether the pairs are neighbours (as in the paper) instead of the two halves.
      scaling: for rows longer than those first trained on.
      sections: pairs that turn by a token's position and by the time, row and column that it has in
        its picture, sound or clip, 0 for text; each has frequencies of its own, down to the base's.
        None: all turn by position.
    """

    base: Annotated[float, Domain(1, ends="(]")] = 10_000.0
    fraction: PositiveFraction = 1.0
    interleaved: bool = False
    scaling: RopeScaling | None = None
    sections: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = None

    def __post_init__(self):
        check_domains(self, "rope")
        if self.sections is not None and self.scaling is not None:
            raise ConfigError("rope.sections and rope.scaling do not go together; leave one out.")

    def width(self, head_dim: int) -> int:
        """Returns how much of a head is rotated."""
        return int(head_dim * self.fraction)

    def angles(
        self,
        positions: jax.Array,
        head_dim: int,
        length: jax.Array | None = None,
        places: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns cosine and sine of positions: two float32 [batch, length, width / 2].

        Args:
          positions: [batch, length] int32.
          head_dim: width of a head.
          length: [batch, 1], of the rows, which some scalings depend on.
          places: [batch, length, 3] int32, time, row and column; None: all is text.
        """
        dim = self.width(head_dim)
        if self.sections is not None:
            angles = self._angles_of_sections(self.sections, positions, places)
            return jnp.cos(angles), jnp.sin(angles)
        frequencies, size = _frequencies(dim, self.base), 1.0
        if self.scaling is not None:
            frequencies = self.scaling.frequencies(dim, self.base, length)
            size = self.scaling.magnification()
        angles = positions.astype(jnp.float32)[..., None] * frequencies.astype(np.float32)
        return size * jnp.cos(angles), size * jnp.sin(angles)

    def _angles_of_sections(self, sections, positions: jax.Array, places: jax.Array | None):
        """Returns [batch, length, width / 2] float32 radians."""
        along = [positions] + [None if places is None else places[..., i] for i in range(3)]
        parts = []
        for pairs, where in zip(sections, along, strict=True):
            frequencies = _frequencies(2 * pairs, self.base).astype(np.float32)
            where = jnp.zeros_like(positions) if where is None else where
            parts.append(where.astype(jnp.float32)[..., None] * frequencies)
        return jnp.concatenate(parts, axis=-1)

    def rotate(self, x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Rotates [batch, heads, length, head_dim] by its positions' angles, in float32."""
        cosine, sine = (angle[:, None] for angle in angles)
        dim = 2 * cosine.shape[-1]
        turned, rest = x[..., :dim].astype(jnp.float32), x[..., dim:]
        if self.interleaved:
            pairs = turned.reshape(*turned.shape[:-1], dim // 2, 2)
            first, second = pairs[..., 0], pairs[..., 1]
        else:
            first, second = jnp.split(turned, 2, axis=-1)
        parts = [first * cosine - second * sine, second * cosine + first * sine]
        if self.interleaved:
            turned = jnp.stack(parts, axis=-1).reshape(turned.shape)
        else:
            turned = jnp.concatenate(parts, axis=-1)
        turned = turned.astype(x.dtype)
        if dim == x.shape[-1]:
            return turned
        if mesh_is_set():
            rest = jax.reshard(rest, jax.typeof(turned).sharding.spec)
        return jnp.concatenate([turned, rest], axis=-1)


def _frequencies(dim: int, base: float) -> np.ndarray:
    return base ** (-np.arange(0, dim, 2) / max(dim, 1))


def sinusoids(positions: jax.Array, dim: int) -> jax.Array:
    """Returns [batch, length, dim] float32: sines, then cosines (1706.03762, 3.5)."""
    angles = positions.astype(jnp.float32)[..., None] * _frequencies(dim, 10_000.0)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class LogTemperature:
    """Queries grow with the logarithm of their position, so that far keys stay apart (Llama 4).

    The factor is 1 + scale * ln(1 + floor((position + offset) / floor_length)).
    """

    scale: NonNegativeFloat = 0.1
    floor_length: PositiveInt = 8192
    offset: NonNegativeInt = 1

    def __post_init__(self):
        check_domains(self, "log_temperature")

    def factor(self, positions: jax.Array) -> jax.Array:
        """Maps [batch, length] to float32 of the same shape."""
        steps = jnp.floor((positions.astype(jnp.float32) + self.offset) / self.floor_length)
        return 1 + self.scale * jnp.log1p(steps)
