"""A student and its frozen teacher."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jaxgen.models.adopting import adopted
from jaxgen.models.base import language_model
from jaxgen.models.distilled_config import DistilledConfig
from jaxgen.models.parameters import freeze
from jaxgen.sharding.layout import Layout


class Distilled(nnx.Module):
    """A language model and a frozen one; called, it is the student."""

    def __init__(self, config: DistilledConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout
        self.model = config.model.build(rngs, layout)
        self.teacher = freeze(config.teacher.build(rngs, layout))

    @property
    def language_model(self) -> Any:
        """The student."""
        return language_model(self.model)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Returns the student's output."""
        return self.language_model(*arguments, **named)

    def adopt(self, parent: Any) -> Distilled:
        """Returns this model with a parent's parameters in its student."""
        model = jax.tree.map(lambda leaf: leaf, self)
        model.model = adopted(self.model, parent)
        return model

    def after_update(self, metrics: dict[str, Any]) -> Distilled:
        """Returns the model after the student's own `after_update`."""
        if not hasattr(self.model, "after_update"):
            return self
        model = jax.tree.map(lambda leaf: leaf, self)
        model.model = self.model.after_update(metrics)
        return model
