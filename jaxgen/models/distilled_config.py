"""The configuration of a student and its teacher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, ParameterCount, language_model

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.distilled import Distilled
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class DistilledConfig:
    """A language model that learns from a frozen one of the same vocabulary, of any size.

    The teacher's parameters are those of a run: `run.initialize_parts = {'teacher': '../large'}`.
    Where the teacher is what the student begins with, `@policy()` with a reference is enough.

    Attributes:
      model: the student: a transformer, or adapters on one.
      teacher: a transformer; its own parameters are frozen.
    """

    model: ModelConfig
    teacher: ModelConfig

    def __post_init__(self):
        sizes = [getattr(one, "vocab_size", None) for one in (self.language_model, self._teacher)]
        if None in sizes:
            kinds = type(self.model).__name__, type(self.teacher).__name__
            raise ConfigError(
                f"distilled.model and distilled.teacher are {kinds}, of which one has no "
                "vocabulary; bind @model() or @lora()."
            )
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"distilled.teacher has a vocabulary of {sizes[1]} and distilled.model one of "
                f"{sizes[0]}; a divergence compares the probabilities of the same tokens: give "
                "both the same codec and vocab_size, or train the student on texts that the "
                "teacher wrote (jaxgen generate)."
            )

    @property
    def language_model(self) -> Any:
        """The student's configuration."""
        return language_model(self.model)

    @property
    def _teacher(self) -> Any:
        return language_model(self.teacher)

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Distilled:
        """Returns the model."""
        from jaxgen.models.distilled import Distilled

        return Distilled(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters, the teacher's in the total alone."""
        own = self.model.count()
        return dataclasses.replace(own, total=own.total + self.teacher.count().total)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token, the teacher's forward pass with them."""
        sizes = (length, source_length)
        return self.model.flops(*sizes) + self.teacher.flops(*sizes) // 3

    def batch_spec(self, *, batch_size: int, length: int, source_length: int | None = None) -> Any:
        """Returns the shapes of the rows that both read."""
        sizes = {"batch_size": batch_size, "length": length, "source_length": source_length}
        self.teacher.batch_spec(**sizes)
        return self.model.batch_spec(**sizes)
