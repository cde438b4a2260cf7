"""Llama 1 to 3 and the families that change one thing in it: Mixtral, Qwen 3, OLMo 2."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Biases, Field, Fixed, Linked, activation
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.interchange.windows import (
    GLOBAL,
    LOCAL,
    read_types,
    rotary_layers,
    windowed_layers,
)
from jaxgen.models.config import TransformerConfig

ATTENTION_BIAS = Biases("attention_bias", ("qkv", "attention_out"))
ACTIVATION = activation("hidden_act", "silu")

LLAMA = Family(
    name="llama",
    architectures=("LlamaForCausalLM",),
    model_types=("llama",),
    entries=(
        *rows.sizes(1e-6),
        *rows.heads(),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        Biases("mlp_bias", ("feed_forward",)),
        rotary_layers(),
    ),
    inert=rows.INERT,
    rows=rows.OUTSIDE,
    stacks=(StackTable("stack", rows.LAYER, (*rows.NORMS, *rows.ATTENTION, *rows.FEED_FORWARD)),),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)

MIXTRAL = dataclasses.replace(
    LLAMA,
    name="mixtral",
    architectures=("MixtralForCausalLM",),
    model_types=("mixtral",),
    entries=(
        *rows.sizes(1e-5),
        *rows.heads(),
        ACTIVATION,
        Field("num_local_experts", "moe.num_experts", aliases=("num_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 2),
        Field("intermediate_size", "moe.mlp_dim"),
        # No layer is dense, but the field needs a number.
        Linked((), lambda values: {"mlp_dim": values["intermediate_size"]}, lambda config: {}),
        windowed_layers(
            (),
            lambda values, count: [LOCAL if values.get("sliding_window") else GLOBAL] * count,
            lambda config, kinds, window: {"sliding_window": window},
            base=1_000_000.0,
        ),
    ),
    inert=(*rows.INERT, "router_jitter_noise"),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *rows.expert_rows("block_sparse_moe.", "w1", "w3", "w2"),
            ),
        ),
    ),
)


def _qwen_types(values: Values, count: int) -> list[str]:
    if not values.get("use_sliding_window"):
        return [GLOBAL] * count
    first = values.get("max_window_layers", 28)
    return [LOCAL if layer >= first else GLOBAL for layer in range(count)]


QWEN3 = dataclasses.replace(
    LLAMA,
    name="qwen3",
    architectures=("Qwen3ForCausalLM",),
    model_types=("qwen3",),
    entries=(
        *rows.sizes(1e-6),
        *rows.heads(128),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        windowed_layers(
            ("use_sliding_window", "layer_types", "max_window_layers"),
            read_types(_qwen_types),
            lambda config, kinds, window: {
                "use_sliding_window": window is not None,
                "sliding_window": window,
                "layer_types": kinds,
            },
            qk_norm="head",
        ),
    ),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (*rows.NORMS, *rows.ATTENTION, *rows.HEAD_NORMS, *rows.FEED_FORWARD),
        ),
    ),
)


def _read_sparse(values: Values) -> dict[str, Any]:
    """Returns which layers have experts: every n-th one, or all after the first few."""
    dense, every = values.get("mlp_only_layers") or [], values.get("decoder_sparse_step") or 1
    if not dense:
        return {"moe.every": every}
    if every == 1 and sorted(dense) == list(range(len(dense))):
        return {"moe.first": len(dense)}
    raise InterchangeError(
        f"config.json says mlp_only_layers={dense} with decoder_sparse_step={every}; jaxgen "
        "supports dense layers at the beginning of a model, or a step."
    )


def _write_sparse(config: TransformerConfig) -> dict[str, Any]:
    moe = config.moe
    first, every = (moe.first, moe.every) if moe else (config.num_layers, 1)
    return {"decoder_sparse_step": every, "mlp_only_layers": list(range(first))}


QWEN3_MOE = dataclasses.replace(
    QWEN3,
    name="qwen3_moe",
    architectures=("Qwen3MoeForCausalLM",),
    model_types=("qwen3_moe",),
    entries=(
        *rows.sizes(1e-6),
        *rows.heads(),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        Field("num_experts", "moe.num_experts", aliases=("num_local_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 8),
        Field("moe_intermediate_size", "moe.mlp_dim"),
        Field("norm_topk_prob", "moe.normalize_top_k", False, (bool,)),
        Linked(("decoder_sparse_step", "mlp_only_layers"), _read_sparse, _write_sparse),
        rotary_layers(qk_norm="head"),
        Fixed("use_sliding_window", False),
    ),
    inert=(*rows.INERT, "sliding_window"),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *rows.HEAD_NORMS,
                *rows.FEED_FORWARD,
                *rows.expert_rows("mlp.", "gate_proj", "up_proj", "down_proj"),
            ),
        ),
    ),
)

OLMO2 = dataclasses.replace(
    LLAMA,
    name="olmo2",
    architectures=("Olmo2ForCausalLM",),
    model_types=("olmo2",),
    constants={"norm_placement": "output"},
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        rotary_layers(qk_norm="width"),
    ),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                row("attention_post_norm.scale", "post_attention_layernorm.weight", "d"),
                row("feed_forward_post_norm.scale", "post_feedforward_layernorm.weight", "d"),
                *rows.ATTENTION,
                row("attention.query_norm.scale", "self_attn.q_norm.weight", "h w", "(h w)"),
                row("attention.key_norm.scale", "self_attn.k_norm.weight", "h w", "(h w)"),
                *rows.FEED_FORWARD,
            ),
        ),
    ),
)
