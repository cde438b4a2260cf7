"""The protocol of what reads prompts for a denoiser.

Your own is a frozen dataclass with the members of `ConditionerConfig`, bound as
`diffusion.conditioner`; those of jaxgen are in `conditioner_configs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxgen.models.base import ParameterCount

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.sharding.layout import Layout


@runtime_checkable
class ConditionerConfig(Protocol):
    """Describes what reads prompts.

    Attributes:
      context_dim: width of the sequence that it gives, or None.
      pooled_dim: width of the vector that it gives, or None.
      drops: how often a prompt is dropped in training, for guidance; one number, or one for each of
        several parts that are dropped apart.
      max_length: the most tokens of a prompt, or None.
    """

    @property
    def context_dim(self) -> int | None: ...

    @property
    def pooled_dim(self) -> int | None: ...

    @property
    def drops(self) -> float | tuple[float, ...]: ...

    @property
    def max_length(self) -> int | None: ...

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Any:
        """Returns a module; called with prompts, which to keep, and a key, it gives what it reads.

        Which to keep is bool [batch], or [parts, batch].
        """
        ...

    def count(self) -> ParameterCount:
        """Returns the numbers of its parameters."""
        ...

    def context_length(self, length: int) -> int:
        """Returns how long its sequence is for prompts of `length` tokens."""
        ...

    def row_flops(self, length: int) -> int:
        """Returns the FLOPs of training for one prompt."""
        ...
