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
from safetensors.numpy import load_file, save_file
from support.interchange_peers import move_parameters, run_peer, save_peer
from support.interchange_tiny import CONFIGS
from support.tiers import slow_but

from jaxgen.batch import Batch
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
    "qwen3_vl_moe": (
        "Qwen3VLMoeForConditionalGeneration",
        text("qwen3_moe", "qwen3_vl_moe_text", rope_scaling=None,
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


def assert_equal(model, again):
    for path, parameter in named_parameters(model):
        assert np.array_equal(parameter[...], again[path][...]), path


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
    assert_equal(model, again)
    alone = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "text", attn_implementation="eager", dtype=torch.float32
    ).eval()
    theirs = run_peer(alone, input_ids=tokens, attention_mask=ones).logits.numpy()
    assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()


def test_experts_in_fused_tensors_are_read_as_published_and_as_transformers_writes_them(tmp_path):
    save_peer(make_whole("qwen3_vl_moe"), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors, shapes = load_file(file), set()
    model = load_model(open_checkpoint(tmp_path))
    for name, tensor in tensors.items():
        if ".mlp.experts." in name:
            tensors[name] = np.ascontiguousarray(tensor.swapaxes(1, 2))
            shapes |= {tensor.shape, tensors[name].shape}
    assert shapes == {(8, 64, 64), (8, 32, 64), (8, 64, 32)}  # Of one matrix both ways are alike.
    save_file(tensors, file)
    assert_equal(model, dict(named_parameters(load_model(open_checkpoint(tmp_path)))))


@pytest.mark.parametrize("smaller", [True, False])
def test_published_models_with_fused_experts_have_their_size(smaller, tmp_path):
    """The text of Qwen3-VL-30B-A3B and 235B-A22B, as transformers counts its own models."""
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "decoder_sparse_step": 1,
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 6144, "max_position_embeddings": 262144, "mlp_only_layers": [],
        "model_type": "qwen3_vl_moe_text", "moe_intermediate_size": 768, "norm_topk_prob": True,
        "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20],
                         "rope_type": "default"},
        "rope_theta": 5000000, "use_cache": True, "vocab_size": 151936,
    }  # fmt: skip
    if not smaller:
        text |= {"hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536,
                 "num_attention_heads": 64, "num_hidden_layers": 94}  # fmt: skip
    values = {"architectures": ["Qwen3VLMoeForConditionalGeneration"], "text_config": text,
              "model_type": "qwen3_vl_moe", "tie_word_embeddings": False}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(values))
    config = open_checkpoint(tmp_path).config
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2}
    kind = transformers.Qwen3VLMoeForConditionalGeneration
    with torch.device("meta"):
        peer = kind(kind.config_class(text_config=text, vision_config=vision))
    sizes = [p.numel() for name, p in peer.named_parameters() if ".visual." not in name]
    expected = 30_532_122_624 if smaller else 235_093_634_560
    assert config.count().total == sum(sizes) == expected
    assert config.moe is not None and config.moe.normalize_top_k
