"""Parameters are left out of training by patterns of their names."""

from __future__ import annotations

from typing import Any

import jax

from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, abstract_model
from jaxgen.models.naming import matching
from jaxgen.models.parameters import Frozen, is_variable, named_parameters, path_name


def frozen_names(model: Any, patterns: tuple[str, ...]) -> frozenset[str]:
    """Returns the dotted names of a model's parameters that match `train.freeze`.

    Raises:
      ConfigError: a pattern matches none.
    """
    described = {name: (name,) for name, _ in named_parameters(model)}
    return frozenset(matching("train.freeze", patterns, described))


def with_frozen(model: Any, patterns: tuple[str, ...]) -> Any:
    """Returns a model whose parameters that match a pattern are not trained.

    They have no gradient, no moments and no decay, and no step changes a bit of them.
    """
    if not patterns:
        return model
    names = frozen_names(model, patterns)

    def freeze(path: Any, parameter: Any) -> Any:
        if path_name(path) not in names:
            return parameter
        return Frozen(parameter.get_value(), **parameter.get_metadata())

    return jax.tree_util.tree_map_with_path(freeze, model, is_leaf=is_variable)


def check_freeze(model: ModelConfig, patterns: tuple[str, ...]) -> None:
    """Raises ConfigError for a pattern that matches nothing, or where nothing is left to train."""
    if not patterns:
        return
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        abstract = abstract_model(model)
    names = frozen_names(abstract, patterns)
    if all(isinstance(p, Frozen) or name in names for name, p in named_parameters(abstract)):
        raise ConfigError(
            f"train.freeze={patterns} leaves no parameter to train; name fewer, such as "
            "'embedding*'."
        )
