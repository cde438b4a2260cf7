"""Parts of a model begin with runs of their own, or with the same part of another run's model."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from support.known_denoisers import LinearConfig

from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.together_config import TogetherConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.runs.warm_start import begun_with
from jaxgen.sharding.layout import Layout

SIZES: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "mlp_dim": 8, "vocab_size": 8}
FIRST, SECOND = (TransformerConfig(**SIZES, embed_dim=width) for width in (8, 16))
PROJECTED = CaptionEncoderConfig(FIRST, pooled=True, projection=4)
TOLD = TogetherConfig(
    (TogetherConfig((PROJECTED, PROJECTED), "width"), CaptionEncoderConfig(SECOND))
)


def built(config: Any, seed: int) -> Any:
    return jax.jit(lambda: config.build(nnx.Rngs(seed), Layout()))()


def values(model: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(parameter[...]) for name, parameter in named_parameters(model)}


@pytest.fixture(scope="module")
def model() -> Any:
    return built(DiffusionConfig(denoiser=LinearConfig(), conditioner=TOLD), 0)


@pytest.mark.slow
def test_one_of_several_conditioners_begins_with_a_run_of_it(model):
    tower, reader = built(PROJECTED, 1), built(SECOND, 2)
    parts = {"conditioner.parts.0.parts.1": tower, "conditioner.parts.1": reader}
    found, before = values(begun_with(model, parts)), values(model)
    own = {f"conditioner.parts.0.parts.1.{name}": one for name, one in values(tower).items()}
    own |= {f"conditioner.parts.1.model.{name}": one for name, one in values(reader).items()}
    assert own.keys() < found.keys() == before.keys()
    for name, one in (before | own).items():
        np.testing.assert_array_equal(found[name], one, name)


@pytest.mark.slow
def test_a_part_begins_with_the_same_part_of_another_model(model):
    other = built(DiffusionConfig(denoiser=LinearConfig(), conditioner=TOLD), 3)
    found = begun_with(model, {"conditioner": other})
    expected = values(other.conditioner)
    for name, one in values(found.conditioner).items():
        np.testing.assert_array_equal(one, expected[name], name)


def test_a_part_of_another_shape_is_refused(model):
    wider = dataclasses.replace(SECOND, embed_dim=24)
    with pytest.raises(ValueError, match="parameters differ"):
        begun_with(model, {"conditioner.parts.1": built(wider, 1)})
