"""Contrastive pairs through the tables of their families; no PyTorch is needed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.helpers import MESHES, spread
from support.pairs import PAIRS, build_pair, tiny_clip

from jaxgen.cli import main
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.configuration import load_recorded
from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import differences, read_config, write_config
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.families.clip import CLIP, SIGLIP
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.interchange.tokenizers import write_codec
from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.mesh import make_mesh

FAMILIES = {"clip": CLIP, "siglip": SIGLIP}
# What openai/clip-vit-large-patch14 and google/siglip-base-patch16-224 say, the idle keys left out.
LARGE = {
    "architectures": ["CLIPModel"],
    "initializer_factor": 1.0,
    "logit_scale_init_value": 2.6592,
    "model_type": "clip",
    "projection_dim": 768,
    "text_config": {
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "dropout": 0.0,
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
        "num_hidden_layers": 12, "projection_dim": 768, "model_type": "clip_text_model",
        "vocab_size": 49408, "top_k": 50,
    },
    "text_config_dict": {
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
        "num_hidden_layers": 12, "projection_dim": 768,
    },
    "vision_config": {
        "dropout": 0.0, "hidden_size": 1024, "image_size": 224, "intermediate_size": 4096,
        "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
        "projection_dim": 768, "model_type": "clip_vision_model",
    },
    "vision_config_dict": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
        "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
    },
}  # fmt: skip
BASE = {
    "architectures": ["SiglipModel"],
    "initializer_factor": 1.0,
    "model_type": "siglip",
    "text_config": {"model_type": "siglip_text_model"},
    "vision_config": {"model_type": "siglip_vision_model"},
}


@pytest.mark.parametrize(
    ("values", "family", "parameters"), [(LARGE, CLIP, 427_616_513), (BASE, SIGLIP, 203_155_970)]
)
def test_published_configurations_are_read(values, family, parameters, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = open_checkpoint(tmp_path).config
    assert config.count().total == parameters
    assert choose_family(config) is family
    assert differences(config, read_config(family, write_config(family, config))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_returns_bit_for_bit_on_a_mesh(name, tmp_path):
    config = dataclasses.replace(
        PAIRS[name], vision=dataclasses.replace(PAIRS[name].vision, pixel_mean=(0.1, 0.2, 0.3))
    )
    with jax.set_mesh(make_mesh(MESHES["mixed"])):
        model = jax.jit(spread)(build_pair(config))
        assert export_model(model, tmp_path / "exported") is FAMILIES[name]
        again = load_model(open_checkpoint(tmp_path / "exported"))
    assert again.config.vision.pixel_mean == (0.1, 0.2, 0.3)
    assert differences(config, again.config) == []
    theirs = dict(named_parameters(again))
    for path, parameter in named_parameters(model):
        np.testing.assert_array_equal(parameter[...], theirs.pop(path)[...], err_msg=path)
    assert not theirs


@pytest.mark.parametrize("name", PAIRS)
def test_every_field_of_a_pair_is_compared(name):
    """A field that changes what is computed cannot be lost on the way."""
    config, family = PAIRS[name], FAMILIES[name]
    text, vision = config.text, config.vision

    def of_stack(**changes):
        return {
            "vision": dataclasses.replace(
                vision, stack=dataclasses.replace(vision.stack, **changes)
            )
        }

    for field, change in {
        "text.norm_epsilon": {"text": dataclasses.replace(text, norm_epsilon=0.5)},
        "text.scale_embeddings": {"text": dataclasses.replace(text, scale_embeddings=True)},
        "vision.stack.gated": of_stack(gated=True),
        "vision.stack.attention_soft_cap": of_stack(attention_soft_cap=3.0),
        "vision.channels": {
            "vision": dataclasses.replace(vision, channels=1, pixel_mean=(0.5,), pixel_stddev=(1,))
        },
        "vision.pooling": {"vision": dataclasses.replace(vision, pooling="mean")},
        "initial_bias": {"initial_bias": 0.0 if name == "clip" else None},
    }.items():
        changed = dataclasses.replace(config, **change)
        try:
            found = read_config(family, write_config(family, changed))
        except InterchangeError as refused:
            assert field in str(refused)
            continue
        assert differences(changed, found) == []
        assert differences(config, found) != []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_folder_becomes_a_run_and_a_run_a_folder(name, tmp_path, capsys):
    config = dataclasses.replace(
        PAIRS[name], text=dataclasses.replace(PAIRS[name].text, vocab_size=320, max_length=72)
    )
    files, more = write_codec(ByteCodec(), both_ends=True)
    export_model(build_pair(config), tmp_path / "hf", files=files, more=more)
    imported = ["import", f"--from={tmp_path / 'hf'}", f"--output={tmp_path / 'run'}"]
    assert main(imported) == 1
    assert "such as runs/contrastive.gin" in capsys.readouterr().err
    assert main([*imported, "--gin_file=runs/contrastive.gin"]) == 0
    assert f"{name}, {config.count().total:,} parameters" in capsys.readouterr().out
    recorded = load_recorded(tmp_path / "run" / "config.gin")
    assert recorded.model.vision == config.vision
    assert recorded.mixture.codec.end_id == ByteCodec().end_id
    exported = ["export", f"--run_dir={tmp_path / 'run'}", f"--output={tmp_path / 'again'}"]
    assert main(exported) == 0
    for file in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        first, second = (json.loads((tmp_path / one / file).read_text()) for one in ("hf", "again"))
        assert first == second, file
    first, second = (load_file(tmp_path / one / "model.safetensors") for one in ("hf", "again"))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_what_a_section_says_beyond_the_table_is_refused():
    values = write_config(CLIP, tiny_clip())
    values["vision_config"]["use_mask_token"] = True
    with pytest.raises(
        InterchangeError, match=r"vision_config in config\.json says use_mask_token"
    ):
        read_config(CLIP, values)
    with pytest.raises(InterchangeError, match="text_config='none', which should be dict"):
        read_config(CLIP, values | {"text_config": "none"})
    with pytest.raises(InterchangeError, match="num_hidden_layers=1000000000"):
        read_config(CLIP, values | {"text_config": {"num_hidden_layers": 10**9}})
    with pytest.raises(InterchangeError, match="logit_scale_init_value='large'"):
        read_config(CLIP, write_config(CLIP, tiny_clip()) | {"logit_scale_init_value": "large"})


def test_a_transformer_is_no_pair_and_a_pair_no_transformer():
    with pytest.raises(InterchangeError, match="no family 'llama' of a DualEncoderConfig"):
        choose_family(tiny_clip(), "llama")
    with pytest.raises(InterchangeError, match="no family 'clip' of a TransformerConfig"):
        choose_family(tiny_clip().text, "clip")
