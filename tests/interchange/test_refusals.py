"""What cannot be exchanged is refused by name, before any tensor is read or file written."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.helpers import build, tiny_dense, tiny_model
from support.interchange_tiny import CONFIGS

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import find_family, read_config, write_config
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.files import TensorFiles
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.interchange.placing import place
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.ops.positions import Rope, RopeScaling


def read(name, **changes):
    values = CONFIGS[name] | changes
    return read_config(find_family(FAMILIES, values), values)


def refusal(error):
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("llama", {"rope_scaling": {"rope_type": "proportional", "factor": 2.0}},
         ["rope_type='proportional'", "'llama3'", "'yarn'", "'longrope'"]),
        ("phi3", {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}},
         ["rope_scaling.long_factor=None", "list"]),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "short": [1]}},
         ["rope_scaling.short=[1]", "factor"]),
        ("llama", {"rope_scaling": {"type": "linear"}}, ["rope_scaling.factor=None", "float"]),
        ("llama", {"hidden_act": "gelu_10"}, ["hidden_act='gelu_10'", "'silu'", "'relu'"]),
        ("llama", {"residual_multiplier": 0.2},
         ["residual_multiplier=0.2", "--ignore_keys=residual_multiplier"]),
        ("llama", {"residual_multiplier": 0.2, "rope_interleaved": True, "strange": [1]},
         ["residual_multiplier=0.2, rope_interleaved=True, strange=[1]", "they change nothing",
          "--ignore_keys=residual_multiplier,rope_interleaved,strange"]),
        ("llama", {"layer_types": ["sliding_attention"] * 2}, ["layer_types=['sliding_att"]),
        ("llama", {"hidden_size": "64"}, ["hidden_size='64'", "int"]),
        ("llama", {"hidden_size": None}, ["lacks 'hidden_size'"]),
        ("llama", {"num_attention_heads": 5}, ["does not make a model"]),
        ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}},
         ["quantization_config", "'gptq'", "mxfp4", "bfloat16"]),
        ("llama", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
         ["load_in_4bit", "eight bits"]),
        ("llama", {"model_type": "new"}, ["model_type='new'", "LlamaForCausalLM"]),
        ("llama", {"model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"]},
         ["Mamba2ForCausalLM", "recurrent", "transformers only"]),
        ("llama", {"model_type": "rwkv", "architectures": ["RwkvForCausalLM"]}, ["recurrent"]),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]},
         ["LlamaForSequenceClassification", "LlamaForCausalLM"]),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True},
         ["scale_attn_by_inverse_layer_idx=True", "False"]),
        ("bloom", {"apply_residual_connection_post_layernorm": True},
         ["apply_residual_connection_post_layernorm=True"]),
        ("qwen3_moe", {"mlp_only_layers": [1]}, ["mlp_only_layers=[1]", "beginning"]),
        ("gemma3", {"layer_types": ["full_attention"]}, ["1 layer_types", "num_hidden_layers=4"]),
        ("gemma3", {"use_bidirectional_attention": True}, ["use_bidirectional_attention=True"]),
        ("deepseek_v3", {"scoring_func": "softmax"}, ["scoring_func='softmax'", "'sigmoid'"]),
        ("deepseek_v3", {"num_key_value_heads": 2}, ["num_key_value_heads=2", "4"]),
        ("deepseek_v2", {"topk_method": "noaux_tc"}, ["topk_method='noaux_tc'", "greedy"]),
        ("opt", {"_remove_final_layer_norm": True}, ["_remove_final_layer_norm=True"]),
        ("cohere2", {"use_qk_norm": True}, ["use_qk_norm=True"]),
        ("smollm3", {"no_rope_layers": [1, 0]}, ["2 no_rope_layers", "num_hidden_layers=5"]),
        ("llama4", {"moe_layers": [0, 1]}, ["moe_layers=[0, 1]", "interleave_moe_layer_step=2"]),
        ("ministral3", {"rope_parameters": {"rope_type": "default"}}, ["llama_4_scaling_beta"]),
        ("mpt", {"attn_config": {"qk_ln": True}}, ["attn_config.qk_ln=True"]),
        ("t5", {"feed_forward_proj": "swish"}, ["feed_forward_proj='swish'", "'relu'"]),
        ("bert", {"position_embedding_type": "relative_key"},
         ["position_embedding_type='relative_key'", "'absolute'"]),
    ],
)  # fmt: skip
def test_an_unknown_feature_of_config_json(name, changes, words):
    with pytest.raises(InterchangeError) as error:
        read(name, **changes)
    for word in words:
        assert word in refusal(error)


HARMLESS = {
    "is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"},
    "unsloth_fixed": True, "_num_labels": 2, "max_sequence_length": 2048, "do_sample": True,
    "temperature": 0.6, "layer_types": ["full_attention"] * 2, "image_token_id": 5,
    "_attn_implementation_autoset": True, "pruned_heads": {}, "use_bfloat16": False,
    "use_flash_attn": True, "cache_implementation": "hybrid", "min_p": 0.05, "pretraining_tp": 1,
    "keys_to_ignore_at_inference": ["past_key_values"], "eos_token": "</s>", "use_mrope": False,
}  # fmt: skip
"""Keys of published files, with the values they have there."""


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "mixtral", "deepseek_v3", "gemma2"])
def test_keys_without_effect_are_known_in_every_family(name):
    keys = {key: value for key, value in HARMLESS.items() if key != "layer_types"}
    assert read(name, **keys) == read(name)


def test_a_user_may_say_that_a_key_changes_nothing(tmp_path):
    values = CONFIGS["llama"] | HARMLESS | {"residual_multiplier": 0.2}
    text = "\ufeff" + json.dumps(values)  # Written on Windows, with a byte-order mark.
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert open_checkpoint(tmp_path, ("residual_multiplier",)).config == read("llama")
    for key, words in (("hidden_size", "by which llama models differ"), ("no", "does not have")):
        with pytest.raises(InterchangeError, match=words):
            open_checkpoint(tmp_path, ("residual_multiplier", key))


LINEAR_ROPE = (LayerConfig(rope=Rope(scaling=RopeScaling("ntk", 2.0))),)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("llama", {"parallel": True}, ["model.parallel=True (it has False)"]),
        ("llama", {"norm": "layer", "logit_soft_cap": 5.0},
         ["model.norm='layer' (it has 'rms')", "model.logit_soft_cap=5.0 (it has None)"]),
        ("llama", {"biases": ("qkv",)}, ["model.biases=frozenset({'qkv'})"]),
        ("llama", {"layers": LINEAR_ROPE}, ["model.layers[0]=", "'ntk'", "1 more layers"]),
        ("llama", {"layers": (LayerConfig(), LayerConfig(rope=None))}, ["model.layers[1]="]),
        ("llama", {"attention_scale": 0.5}, ["model.attention_scale=0.5 (it has 0.25)"]),
        ("gpt2", {}, ["model.max_length=None (it needs one)", "model.norm='rms' (it has 'layer')", 
                      "model.gated=True (it has False)"]),
        ("mixtral", {}, ["mixtral cannot express", "model.moe.num_experts=None"]),
        (None, {"parallel": True},
         ["no family", "nearest: llama", "model.parallel=True (it has False)"]),
        ("mamba", {}, ["no family 'mamba'", "llama, mistral"]),
    ],
)  # fmt: skip
def test_what_a_family_cannot_express(family, changes, words):
    config = tiny_dense(**({"head_dim": 16, "tie_embeddings": False} | changes))
    with pytest.raises(InterchangeError) as error:
        choose_family(config, family)
    for word in words:
        assert word in refusal(error)


def test_a_refusal_lists_no_more_than_can_be_read():
    config = tiny_dense(norm="layer", parallel=True, logit_soft_cap=5.0, biases=("qkv",),
                        scale_embeddings=True, attention_soft_cap=3.0, attention_scale=0.5,
                        norm_unit_offset=True, embedding_norm=True, qkv_clip=4.0)  # fmt: skip
    with pytest.raises(InterchangeError) as error:
        choose_family(config, "llama")
    lines = str(error.value).splitlines()
    assert len(lines) == 10 and lines[-1] == "  and 1 more"


def test_settings_of_training_are_no_obstacle():
    config = tiny_dense(dropout=0.1, compute_dtype="bfloat16")
    assert choose_family(config).name == "llama"


OF_MEDIA = {"llava": "llava", "gemma3_seeing": "gemma3_vision", "whisper": "whisper"}
"""Families whose tiny members are gin files."""
OF_T5 = {
    "architectures": ["T5EncoderModel"], "model_type": "t5", "d_model": 24, "d_kv": 6, "d_ff": 40,
    "num_heads": 4, "num_layers": 2, "vocab_size": 90, "feed_forward_proj": "relu",
}  # fmt: skip
OF_ENCODERS = {
    "t5_encoder": OF_T5,
    "t5_v1_1_encoder": OF_T5 | {"feed_forward_proj": "gated-gelu"},
    "clip_text": {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "vocab_size": 90,
        "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 16, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    },
}  # fmt: skip
"""Encoders of captions that stand alone."""


@pytest.mark.parametrize(
    "family",
    [family for family in FAMILIES if family.kind is TransformerConfig],
    ids=lambda family: family.name,
)
def test_every_field_of_a_configuration_is_compared(family):
    """A field that changes what is computed cannot be lost on the way, in any family."""
    known = CONFIGS | OF_ENCODERS
    found = [name for name in known if find_family(FAMILIES, known[name]) is family]
    config = read_config(family, known[found[0]]) if found else tiny_model(OF_MEDIA[family.name])
    for change in (
        {"norm_epsilon": 0.5}, {"scale_embeddings": not config.scale_embeddings},
        {"attention_soft_cap": 7.0}, {"norm_unit_offset": not config.norm_unit_offset},
        {"gated": not config.gated}, {"embedding_norm": not config.embedding_norm},
        {"num_token_types": 5}, {"mlp_dim": 20},
    ):  # fmt: skip
        changed = dataclasses.replace(config, **change)
        try:
            found = read_config(family, write_config(family, changed))
        except InterchangeError as refused:
            assert next(iter(change)) in str(refused)
            continue
        field = next(iter(change))
        kinds = [kind for group in config.groups for kind in group.unit]
        sparse_only = field == "mlp_dim" and all(kind.is_sparse for kind in kinds)
        assert sparse_only or getattr(found, field) == change[field], field


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of llama made of zeros."""
    values = CONFIGS["llama"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    checkpoint = open_checkpoint(tmp_path)
    shapes = {n: p.shape for n, p in named_parameters(abstract_model(checkpoint.config))}
    placements = place(checkpoint.family, checkpoint.config, shapes)
    tensors = {n: np.zeros(p.tensor_shape, np.float32) for p in placements for n, _ in p.tensors()}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def change_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def fails(folder):
    with pytest.raises(InterchangeError) as error:
        load_model(open_checkpoint(folder))
    return refusal(error)


def test_tensors_are_checked_by_name_before_any_is_read(folder, monkeypatch):
    load_model(open_checkpoint(folder))
    monkeypatch.setattr(TensorFiles, "fetch", lambda *_: pytest.fail("a tensor was read"))

    def change(tensors):
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros(3)
        tensors["model.norm.weight"] = np.zeros((3, 2))

    change_tensors(folder, change)
    message = fails(folder)
    assert "missing: model.layers.1.mlp.up_proj.weight" in message
    assert "unknown to the model: model.layers.2.mlp.up_proj.weight" in message
    assert "of another shape: model.norm.weight [3, 2] instead of [64]" in message


def test_a_copy_of_a_tied_table_must_be_one(folder):
    values = CONFIGS["llama"] | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(values))
    load_model(open_checkpoint(folder))
    change_tensors(folder, lambda tensors: tensors["lm_head.weight"].__setitem__((50, 3), 1))
    assert "lm_head.weight" in (message := fails(folder)) and "tie_word_embeddings" in message


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("gpt2", r"^transformer\.", ""),
        ("bloom", r"^transformer\.", ""),
        ("bert_masked", r"LayerNorm\.weight$", "LayerNorm.gamma"),
        ("bert_masked", r"LayerNorm\.bias$", "LayerNorm.beta"),
        ("bert", r"^", "bert."),
    ],
)
def test_older_names_and_unused_tensors_are_read(name, old, new, tmp_path):
    """As in the files that OpenAI's, BigScience's and Google's models were published in."""
    model = build(read(name))
    export_model(model, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    tensors = {re.sub(old, new, path): tensor for path, tensor in tensors.items()}
    more = {
        "gpt2": {"h.1.attn.bias": np.zeros((1, 1, 4, 4), np.float32)},
        "bert": {"cls.seq_relationship.weight": np.zeros((2, 64), np.float32)},
        "bert_masked": {"bert.pooler.dense.bias": np.zeros(64, np.float32)},
    }
    save_file(tensors | more.get(name, {}), tmp_path / "out" / "model.safetensors")
    loaded = dict(named_parameters(load_model(open_checkpoint(tmp_path / "out"))))
    for path, parameter in named_parameters(model):
        assert np.array_equal(parameter.get_value(), loaded[path].get_value()), path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-7],
        lambda data: data[:40],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: b"\xff" * 64,
        lambda data: data[:8] + b"x" + data[9:],
    ],
    ids=["cut short", "cut in the header", "cut in the length", "empty", "noise", "no JSON"],
)
def test_damaged_files(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert "not a whole safetensors file" in fails(folder)


def test_an_index_must_be_right(folder):
    names = list(load_file(folder / "model.safetensors"))
    index = folder / "model.safetensors.index.json"

    def point(**places):
        placed = dict.fromkeys(names, "model.safetensors") | places
        index.write_text(json.dumps({"weight_map": placed}))

    point()
    load_model(open_checkpoint(folder))
    point(more="model.safetensors")
    assert "lacks more" in fails(folder)
    point(more="absent.safetensors")
    assert "absent.safetensors is missing" in fails(folder)
    point(more="../model.safetensors")
    assert "outside" in fails(folder)
    index.write_text("{")
    assert "is not JSON" in fails(folder)


def test_a_folder_must_be_a_checkpoint(tmp_path, folder):
    with pytest.raises(InterchangeError, match=r"config\.json cannot be read"):
        open_checkpoint(tmp_path / "nowhere")
    (folder / "model.safetensors").rename(folder / "flax_model.msgpack")
    assert "save_pretrained" in fails(folder)


def test_quantised_tensors_are_not_taken_for_numbers(folder):
    def quantise(tensors):
        tensors["model.norm.weight"] = np.zeros(64, np.int8)

    change_tensors(folder, quantise)
    assert "model.norm.weight" in (message := fails(folder)) and "I8" in message


def test_an_export_leaves_an_existing_folder_alone(folder):
    model = load_model(open_checkpoint(folder))
    with pytest.raises(InterchangeError, match="exists"):
        export_model(model, folder)
    shutil.rmtree(folder)
    export_model(model, folder)
    load_model(open_checkpoint(folder))
