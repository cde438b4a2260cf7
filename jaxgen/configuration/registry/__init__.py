"""The names that gin files use. Short, lower case, one for each dataclass a run is made of."""

from __future__ import annotations

from jaxgen.configuration.registry.codecs import registered_codecs
from jaxgen.configuration.registry.data import registered_data
from jaxgen.configuration.registry.diffusion import registered_samplers
from jaxgen.configuration.registry.evaluation import registered_evaluation
from jaxgen.configuration.registry.generated import (
    registered_assistant_generators,
    registered_generators,
    registered_installed_media,
    registered_media_generators,
)
from jaxgen.configuration.registry.models import registered_models
from jaxgen.configuration.registry.preferences import registered_preferences, registered_rewards
from jaxgen.configuration.registry.preparation import registered_preparation
from jaxgen.configuration.registry.sources import registered_sources
from jaxgen.configuration.registry.training import registered_training
from jaxgen.configuration.table import Table


def registered() -> Table:
    """Returns all names of jaxgen; rooms are imported when a configuration is first read.

    A new name goes into the file of its theme beside this one.
    """
    from jaxgen.runs.config import RunConfig

    return {
        "run": RunConfig,
        **registered_data(),
        **registered_sources(),
        **registered_preparation(),
        **registered_generators(),
        **registered_assistant_generators(),
        **registered_media_generators(),
        **registered_installed_media(),
        **registered_codecs(),
        **registered_evaluation(),
        **registered_models(),
        **registered_samplers(),
        **registered_preferences(),
        **registered_rewards(),
        **registered_training(),
    }
