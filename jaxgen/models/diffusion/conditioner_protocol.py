"""The protocol of what reads prompts for a denoiser.

Your own is a frozen dataclass with the members of `ConditionerConfig`, bound as
`diffusion.conditioner`; those of jaxgen are in `conditioner_configs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxgen.models.base import ParameterCount

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.sharding.layout import Layout


@runtime_checkable
class ConditionerConfig(Protocol):
    """Describes what reads prompts.

    It may also have `reads_source = True`, where it reads captions by the data's second codec, of
    `source_length` tokens, and `max_source_length`, the most of those; `reads_vectors = True`,
    where it reads what a prior makes of a caption; and `parts`, if it is made of several.

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

    def context_length(self, length: int, source_length: int | None = None) -> int:
        """Returns how long its sequence is for prompts of `length` tokens.

        `source_length` is that of the same captions by the data's second codec, if there is one.
        """
        ...

    def row_flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for one prompt."""
        ...


def leaves_of(config: Any) -> Iterator[Any]:
    """Yields what a conditioner is made of: the parts of its parts, or itself."""
    parts = getattr(config, "parts", None)
    if parts is None:
        yield config
    else:
        for one in parts:
            yield from leaves_of(one)
