"""The config.json of published models, as their authors uploaded them, and their exact sizes."""

import math

import pytest
from support.published import PUBLISHED

from jaxgen.interchange.configs import differences, find_family, read_config, write_config
from jaxgen.interchange.exporting import choose_family
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.placing import place
from jaxgen.models.base import abstract_model
from jaxgen.models.parameters import named_parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_size(name):
    parameters, values = PUBLISHED[name]["parameters"], PUBLISHED[name]["config"]
    family = find_family(FAMILIES, values)
    config = read_config(family, values)
    abstract = abstract_model(config)
    shapes = {path: parameter.shape for path, parameter in named_parameters(abstract)}
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
    place(family, config, shapes)
    assert choose_family(config, original=values) is family
    assert differences(config, read_config(family, write_config(family, config))) == []
