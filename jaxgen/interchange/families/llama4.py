"""Llama 4's text models (Meta 2025), with experts in fused tensors."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Linked, checked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, LLAMA
from jaxgen.interchange.families.smollm import read_rotated
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import StackTable, Values, row
from jaxgen.interchange.windows import layers_in_order, shortest_period
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.masks import Causal, Chunked
from jaxgen.ops.positions import LogTemperature, Rope

_LAYER_KEYS = (
    "attention_chunk_size", "attn_scale", "attn_temperature_tuning", "floor_scale",
    "no_rope_layer_interval", "no_rope_layers", "use_qk_norm",
)  # fmt: skip


def _read_layers(values: Values) -> dict[str, Any]:
    normed = "unit" if values.get("use_qk_norm", True) else None
    rope = read_rope(values, interleaved=True, base=500_000.0)
    chunk = checked("attention_chunk_size", values.get("attention_chunk_size", 8192), (int,))
    growth = None
    if values.get("attn_temperature_tuning", True):
        length = checked("floor_scale", values.get("floor_scale", 8192), (int,))
        growth = LogTemperature(values.get("attn_scale", 0.1), length)
    near = LayerConfig((Causal(), Chunked(chunk)), rope, normed)
    far = LayerConfig(rope=None, temperature=growth)
    layers = [near if has else far for has in read_rotated(values)]
    return {"layers": tuple(shortest_period(layers))}


def _write_layers(config: TransformerConfig) -> dict[str, Any]:
    layers = layers_in_order(config)
    near = next((layer for layer in layers if layer.rope is not None), LayerConfig())
    far = next((layer for layer in layers if layer.rope is None), LayerConfig())
    growth = far.temperature or LogTemperature()
    chunks = [one.size for one in near.mask if isinstance(one, Chunked)]
    rotated = [int(layer.rope is not None) for layer in layers]
    return write_rope(near.rope or Rope()) | {
        "attention_chunk_size": (chunks or [8192])[0],
        "attn_temperature_tuning": far.temperature is not None,
        "attn_scale": growth.scale,
        "floor_scale": growth.floor_length,
        "no_rope_layers": rotated,
        "use_qk_norm": near.qk_norm == "unit",
    }


def _read_sparse(values: Values) -> dict[str, Any]:
    every, count = values.get("interleave_moe_layer_step") or 1, values["num_hidden_layers"]
    named = values.get("moe_layers")
    if named is not None and list(named) != list(range(every - 1, count, every)):
        raise InterchangeError(
            f"config.json says moe_layers={named} with interleave_moe_layer_step={every}; jaxgen "
            "supports the last layer of each step."
        )
    return {"moe.every": every}


LLAMA4 = dataclasses.replace(
    LLAMA,
    name="llama4",
    architectures=("Llama4ForCausalLM",),
    model_types=("llama4_text",),
    constants={"moe.scores": "sigmoid", "moe.normalize_top_k": False, "moe.weigh": "input"},
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", 8),
        Field("head_dim", "head_dim", 128),
        ACTIVATION,
        Field("intermediate_size_mlp", "mlp_dim"),
        Field("num_local_experts", "moe.num_experts", 16),
        Field("num_experts_per_tok", "moe.experts_per_token", 1),
        Field("intermediate_size", "moe.mlp_dim"),
        Linked(
            (),
            lambda values: {"moe.shared_mlp_dim": values["intermediate_size"]},
            lambda config: {},
        ),
        Linked(
            ("interleave_moe_layer_step", "moe_layers"),
            _read_sparse,
            lambda config: {"interleave_moe_layer_step": config.moe.every if config.moe else 1},
        ),
        Linked((*ROPE_KEYS, *_LAYER_KEYS), _read_layers, _write_layers),
    ),
    inert=(*rows.INERT, "for_llm_compression", "layer_types", "router_jitter_noise"),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *(
                    dataclasses.replace(one, theirs=one.theirs.replace("mlp.", "feed_forward."))
                    for one in rows.FEED_FORWARD
                ),
                row("feed_forward.router", "feed_forward.router.weight", "d e", "e d"),
                row(
                    "feed_forward.gate feed_forward.up", "feed_forward.experts.gate_up_proj",
                    "e d f", "e d (part f)",
                ),
                row("feed_forward.down", "feed_forward.experts.down_proj", "e f d"),
                *rows.shared_rows("feed_forward.shared_expert"),
            ),
        ),
    ),
)  # fmt: skip
