"""A model of which adapters alone are trained."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jaxgen.models.adapters import adapted, adopt, map_readable, merged, without_adapters
from jaxgen.models.base import language_model
from jaxgen.models.lora_config import LoraConfig
from jaxgen.sharding.layout import Layout


class Lora(nnx.Module):
    """A frozen model with adapters beside some of its matrices.

    `language_model` is the model itself, whose matrices are merged with their adapters where they
    are read; an objective, an evaluation and a sampler use it as one without adapters.
    """

    def __init__(self, config: LoraConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.model = adapted(
            config.model.build(rngs, layout),
            rngs,
            layout,
            config.adapted_names,
            config.rank,
            config.scale,
            config.dora,
            config.dropout,
        )

    @property
    def layout(self) -> Layout:
        """That of the model."""
        return self.model.layout

    @property
    def language_model(self) -> Any:
        """The model as it is with its adapters."""
        return language_model(self.model)

    def __call__(self, batch: Any, *args: Any, key: jax.Array | None = None, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.model(batch, *args, key=key, **kwargs)

    def without_adapters(self) -> Any:
        """Returns the frozen model: the policy before it was tuned, at no cost of memory."""
        return without_adapters(self.language_model)

    def merged(self) -> Any:
        """Returns a model of `config.model` that computes the same."""
        return merged(self.language_model)

    def adopt(self, parent: Any) -> Lora:
        """Returns this model upon the parameters of a parent; adapters stay as they are.

        Args:
          parent: a model of `config.model`, or one with adapters of it, which are merged.
        """
        model = map_readable(lambda _, node: node, self)
        model.model = adopt(self.model, language_model(parent))
        return model
