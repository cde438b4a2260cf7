"""Denoisers in the folders of diffusers, there and back, and what has no counterpart."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from support.denoisers import MMDITS, dit_stack, jit_config, tiny_dit, tiny_mmdit, tiny_prior
from support.helpers import spread

from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.diffusion.conditioner_configs import ClassLabelsConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.layout import Layout

LABELS = ClassLabelsConfig(classes=7, embed_dim=32)
CONFIGS = {
    "dit": DiffusionConfig(
        denoiser=tiny_dit(frequency_shift=1, feed_forward_epsilon=1e-5), conditioner=LABELS
    ),
    "stable_diffusion_3": DiffusionConfig(denoiser=tiny_mmdit(qk_norm=True, dual_layers=2)),
    "flux": DiffusionConfig(denoiser=MMDITS["flux"]),
    "unclip_prior": DiffusionConfig(denoiser=tiny_prior(statistics=True)),
}


def built(config):
    return spread(config.build(nnx.Rngs(0), Layout()))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back(name, tmp_path):
    model = built(CONFIGS[name])
    assert export_model(model, tmp_path / "out").name == name
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "_class_name" in values
    assert (tmp_path / "out" / "diffusion_pytorch_model.safetensors").exists()
    checkpoint = open_checkpoint(tmp_path / "out")
    assert checkpoint.family.name == name
    again = load_model(checkpoint)
    assert choose_family(again.config).name == name
    for (path, a), (_, b) in zip(named_parameters(model), named_parameters(again), strict=True):
        np.testing.assert_array_equal(a[...], b[...], err_msg=path)


def test_what_has_no_counterpart_is_refused():
    original = dataclasses.replace(CONFIGS["dit"], denoiser=tiny_dit())
    with pytest.raises(InterchangeError, match=r"denoiser\.frequency_shift=0 \(it has 1\)"):
        choose_family(original)
    with pytest.raises(InterchangeError, match="cannot express"):
        choose_family(DiffusionConfig(denoiser=jit_config(), conditioner=LABELS))
    gated = tiny_mmdit(stack=dit_stack(gated=True))
    with pytest.raises(InterchangeError, match=r"denoiser\.stack\.gated=True"):
        choose_family(DiffusionConfig(denoiser=gated))
    with pytest.raises(InterchangeError, match=r"denoiser\.statistics=False"):
        choose_family(DiffusionConfig(denoiser=tiny_prior()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an exported Stable Diffusion 3."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    export_model(built(CONFIGS["stable_diffusion_3"]), folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "WanTransformer3DModel"}, "of diffusers' components jaxgen reads"),
        ({"dual_attention_layers": [1]}, "dual_attention_layers=.1."),
        ({"out_channels": 9}, "out_channels=9"),
        ({"caption_projection_dim": 9}, "caption_projection_dim=9"),
        ({"something_new": 3}, "something_new=3"),
    ],
)
def test_what_jaxgen_lacks_is_refused(changes, message, exported, tmp_path):
    path = tmp_path / "out" / "config.json"
    shutil.copytree(exported, path.parent)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InterchangeError, match=message):
        open_checkpoint(path.parent)


def test_another_table_of_positions_is_refused(tmp_path, monkeypatch):
    model = built(CONFIGS["stable_diffusion_3"])
    monkeypatch.setattr(
        "jaxgen.interchange.families.stable_diffusion_3.table_of",
        lambda config: np.zeros((36, 32), np.float32),
    )
    export_model(model, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(InterchangeError, match="a table of fixed numbers"):
        load_model(open_checkpoint(tmp_path / "out"))


def test_models_are_made_without_memory():
    for config in CONFIGS.values():
        abstract = jax.eval_shape(lambda config=config: config.build(nnx.Rngs(0), Layout()))
        assert config.count().total == sum(p.size for _, p in named_parameters(abstract))
