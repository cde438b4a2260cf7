"""The text part of models that read images too computes what the whole computes of text alone."""

import copy
import json

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from support.interchange_peers import move_parameters, run_peer, save_peer
from support.interchange_tiny import CONFIGS
from support.tiers import slow_but

from jaxgen.batch import Batch
from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters

TOLERANCE = 2e-5
VISION = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
QWEN_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}


def text(name, model_type=None, **changes):
    """A tiny model of a family, as the text part of a larger one."""
    values = {key: value for key, value in CONFIGS[name].items() if key != "architectures"}
    return values | {"model_type": model_type or values["model_type"]} | changes


def rope_by_axis(*sections, **more):
    """Positions in time, height and width, which of text are the same."""
    return {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sections), **more}


PARTS = {
    "gemma3": ("Gemma3ForConditionalGeneration", text("gemma3"),
               VISION | {"model_type": "siglip_vision_model"}),
    "llama4": ("Llama4ForConditionalGeneration", text("llama4"), VISION | {
        "model_type": "llama4_vision_model", "vision_output_dim": 32, "projector_input_dim": 32,
        "projector_output_dim": 32}),
    "mistral3": ("Mistral3ForConditionalGeneration", text("mistral", sliding_window=None),
                 VISION | {"model_type": "pixtral", "head_dim": 16}),
    "mistral3_of_ministral3": (
        "Mistral3ForConditionalGeneration", text("ministral3"),
        VISION | {"model_type": "pixtral", "head_dim": 16}),
    "qwen2_5_vl": (
        "Qwen2_5_VLForConditionalGeneration",
        text("qwen2", "qwen2_5_vl_text", rope_parameters=rope_by_axis(2, 3, 3)),
        QWEN_VISION | {"out_hidden_size": 64, "fullatt_block_indexes": [0]}),
    "qwen3_vl": (
        "Qwen3VLForConditionalGeneration",
        text("qwen3", "qwen3_vl_text", rope_scaling=None,
             rope_parameters=rope_by_axis(4, 2, 2, mrope_interleaved=True)),
        QWEN_VISION | {"out_hidden_size": 64, "deepstack_visual_indexes": [0]}),
    "llava": ("LlavaForConditionalGeneration", text("llama"),
              VISION | {"model_type": "clip_vision_model"}),
    "idefics3": ("Idefics3ForConditionalGeneration", text("llama"),
                 VISION | {"model_type": "idefics3_vision"}),
    "internvl": ("InternVLForConditionalGeneration", text("qwen2"),
                 VISION | {"model_type": "internvl_vision"}),
}  # fmt: skip


def make_whole(name):
    kind, part, vision = copy.deepcopy(PARTS[name])
    whole = getattr(transformers, kind)
    config = whole.config_class(text_config=part, vision_config=vision)
    config._attn_implementation = "eager"
    return move_parameters(whole(config).float().eval())


@jax.jit
def forward(model, batch):
    return model.logits(model(batch).hidden)


@pytest.mark.parametrize("name", slow_but(("mistral3", "qwen2_5_vl"), PARTS))
def test_text_alone_has_the_same_logits(name, tmp_path):
    peer = make_whole(name)
    save_peer(peer, tmp_path / "whole")
    checkpoint = open_checkpoint(tmp_path / "whole", text_only=True)
    assert checkpoint.part_of == PARTS[name][0]
    model = load_model(checkpoint)
    tokens = np.random.default_rng(1).integers(3, 96, (2, 24)).astype(np.int32)
    ones, positions = np.ones_like(tokens), np.tile(np.arange(24, dtype=np.int32), (2, 1))
    batch = Batch(tokens, tokens, ones.astype(np.float32), positions, ones, 0 * ones)
    ours = np.asarray(forward(model, batch))
    theirs = run_peer(peer, input_ids=tokens, attention_mask=ones).logits.numpy()
    assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()

    whole = json.loads((tmp_path / "whole" / "config.json").read_text())
    family = choose_family(checkpoint.config, original=whole)
    assert family.name == checkpoint.family.name
    export_model(model, tmp_path / "text", family, original=whole)
    again = dict(named_parameters(load_model(open_checkpoint(tmp_path / "text"))))
    for path, parameter in named_parameters(model):
        assert np.array_equal(parameter[...], again[path][...]), path
    alone = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "text", attn_implementation="eager", dtype=torch.float32
    ).eval()
    theirs = run_peer(alone, input_ids=tokens, attention_mask=ones).logits.numpy()
    assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()


def test_experts_in_fused_tensors_are_refused_by_name(tmp_path):
    values = '{"architectures": ["Qwen3VLMoeForConditionalGeneration"], "text_config": %s}'
    (tmp_path / "config.json").write_text(values % '{"model_type": "qwen3_vl_moe_text"}')
    with pytest.raises(InterchangeError, match="qwen3_vl_moe_text"):
        open_checkpoint(tmp_path)
