"""The configuration of several conditioners that tell a denoiser together."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.diffusion.conditioner_protocol import ConditionerConfig, leaves_of

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.together import Together
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class TogetherConfig:
    """Several conditioners, each dropped by itself; one of them may be several together in turn.

    Attributes:
      parts: what tells. Their vectors are laid side by side.
      join: of their sequences: "length": one after another, narrower ones made as wide as the
        widest by zeros; "width": side by side, of one length, zeros where one of them has a mask.
    """

    parts: tuple[ConditionerConfig, ...]
    join: Literal["length", "width"] = "length"

    def __post_init__(self):
        if len(self.parts) < 2:
            raise ConfigError(f"together.parts are {len(self.parts)}: give two or more.")
        if sum(getattr(one, "precomputed", False) for one in leaves_of(self)) > 1:
            raise ConfigError(
                "together.parts has two encoders with precomputed=True, and the data give the "
                "states of one: leave the other in the model."
            )
        if self.join not in ("length", "width"):
            raise ConfigError(f"together.join={self.join!r} is neither 'length' nor 'width'.")

    @property
    def context_dim(self) -> int | None:
        """Width of the sequences."""
        widths = [one.context_dim for one in self.parts if one.context_dim]
        if not widths:
            return None
        return sum(widths) if self.join == "width" else max(widths)

    @property
    def pooled_dim(self) -> int | None:
        """Sum of the vectors' widths."""
        return sum(one.pooled_dim or 0 for one in self.parts) or None

    @property
    def drops(self) -> tuple[float, ...]:
        """Those of the parts, and of the parts of such."""
        return tuple(drop for one in self.parts for drop in drops_of(one))

    @property
    def max_length(self) -> int | None:
        """The shortest of the parts'."""
        return self._shortest("max_length")

    @property
    def max_source_length(self) -> int | None:
        """Likewise of captions by the data's second codec."""
        return self._shortest("max_source_length")

    @property
    def reads_source(self) -> bool:
        """Whether a part reads captions by the data's second codec."""
        return any(getattr(one, "reads_source", False) for one in self.parts)

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Together:
        """Returns the module."""
        from jaxgen.models.diffusion.together import Together

        return Together(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the sums of the parts'."""
        found = [one.count() for one in self.parts]
        return ParameterCount(
            total=sum(one.total for one in found),
            active=sum(one.active for one in found),
            embedding=sum(one.embedding for one in found),
        )

    def context_length(self, length: int, source_length: int | None = None) -> int:
        """Returns the sum of the parts', or the longest of sequences that are side by side."""
        found = [one.context_length(length, source_length) for one in self.parts]
        return max(found) if self.join == "width" else sum(found)

    def row_flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the sum of the parts'."""
        return sum(one.row_flops(length, source_length) for one in self.parts)

    def _shortest(self, name: str) -> int | None:
        lengths = [getattr(one, name, None) for one in self.parts]
        there = [one for one in lengths if one is not None]
        return min(there) if there else None


def drops_of(config: ConditionerConfig) -> tuple[float, ...]:
    """Returns how often each part of a conditioner is dropped; one that has no parts is one."""
    return config.drops if isinstance(config.drops, tuple) else (config.drops,)
