"""The files of gin/models with a U-Net: counts against what was published, and tiny members."""

import jax
import pytest
from support.helpers import UNET_FAMILIES
from support.tiers import slow_but

from jaxgen.commands.models import load_model, model_names
from jaxgen.interchange.exporting import choose_family
from jaxgen.models.base import abstract_model
from jaxgen.models.diffusion.unet_config import UNetConfig
from jaxgen.models.parameters import number_of_parameters

NAMES = [name for name in model_names() if name.split("/")[0] in UNET_FAMILIES]
NETWORKS = {
    "adm/64": 295_136_454,
    "adm/128": 420_505_606,
    "adm/256": 552_814_086,
    "glide/base": 2_242_360_838,
    "stable_diffusion_1/whole": 859_520_964,
    "stable_diffusion_2/whole": 865_910_724,
    "stable_diffusion_xl/unet": 2_567_463_684,
    "unclip/upsampler_256": 729_710_726,
    "unclip/upsampler_1024": 282_064_326,
}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_as_published_or_a_note_says_how_they_differ(name):
    config = load_model(name)
    card, count = config.card, config.count()
    assert isinstance(config.denoiser, UNetConfig) and card.name and card.source
    if card.parameters is None:
        assert card.note or name.endswith("tiny")
    elif card.is_exact:
        assert count.total == card.parameters
    elif abs(count.total / card.parameters - 1) > 0.02:
        assert f"{count.total:,}" in card.note
    if name in NETWORKS:
        assert config.denoiser.count_denoiser().total == NETWORKS[name]
    assert config.flops(1) > 0


@pytest.mark.parametrize(
    "name", slow_but(["imagen/tiny"], [name for name in NAMES if name.endswith("tiny")])
)
def test_tiny_members_have_as_many_parameters_and_a_forward_pass(name):
    config = load_model(name)
    model = abstract_model(config)
    assert number_of_parameters(model) == config.count().total < 4e6
    if config.conditioner is not None:
        batch = config.batch_spec(batch_size=2, length=config.max_length or 8)
        size, channels = config.denoiser.size, config.denoiser.channels
        x = jax.ShapeDtypeStruct((2, size, size, channels), "float32")
        time = jax.ShapeDtypeStruct((2,), "float32")
        found = jax.eval_shape(lambda model, *a: model.predict(*a), model, x, time, batch)
        assert found.shape == (2, size, size, config.denoiser.out_channels)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("/unet")])
def test_published_networks_alone_can_be_exchanged(name):
    assert choose_family(load_model(name)).name == "unet"
    assert choose_family(load_model(name), "unet_linear").name == "unet_linear"
