"""Qwen 2 and 2.5 (2407.10671, 2412.15115) and Qwen 3 (2505.09388), dense and sparse."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Biases, Field, Fixed, Linked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, ATTENTION_BIAS, LLAMA
from jaxgen.interchange.tables import StackTable, Values, row
from jaxgen.interchange.windows import (
    GLOBAL,
    LOCAL,
    read_types,
    rotary_layers,
    windowed_layers,
)
from jaxgen.models.config import TransformerConfig


def _qwen_types(values: Values, count: int) -> list[str]:
    if not values.get("use_sliding_window"):
        return [GLOBAL] * count
    first = values.get("max_window_layers", 28)
    return [LOCAL if layer >= first else GLOBAL for layer in range(count)]


def _layers(qk_norm: Any = None) -> Linked:
    return windowed_layers(
        ("use_sliding_window", "layer_types", "max_window_layers"),
        read_types(_qwen_types),
        lambda config, kinds, window: {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "layer_types": kinds,
        },
        qk_norm=qk_norm,
    )


# DeepSeek-R1's distilled models, among others, are of this form.
QWEN2 = dataclasses.replace(
    LLAMA,
    name="qwen2",
    architectures=("Qwen2ForCausalLM",),
    model_types=("qwen2",),
    constants={"biases.qkv": True},
    entries=(
        *rows.sizes(1e-6),
        Field("num_key_value_heads", "num_kv_heads", 32),
        Field("head_dim", "head_dim", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        _layers(),
        Fixed("use_mrope", False),
    ),
)

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
        _layers(qk_norm="head"),
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


QWEN2_MOE = dataclasses.replace(
    QWEN2,
    name="qwen2_moe",
    architectures=("Qwen2MoeForCausalLM",),
    model_types=("qwen2_moe",),
    constants={"moe.shared_gate": True},
    entries=(
        *rows.sizes(1e-6),
        Field("num_key_value_heads", "num_kv_heads", 16),
        Field("head_dim", "head_dim", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        Biases("qkv_bias", ("qkv",), default=True),
        Field("num_experts", "moe.num_experts", 60, aliases=("num_local_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 4),
        Field("moe_intermediate_size", "moe.mlp_dim"),
        Field("shared_expert_intermediate_size", "moe.shared_mlp_dim"),
        Field("norm_topk_prob", "moe.normalize_top_k", False, (bool,)),
        Linked(("decoder_sparse_step", "mlp_only_layers"), _read_sparse, _write_sparse),
        _layers(),
    ),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *rows.FEED_FORWARD,
                *rows.expert_rows("mlp.", "gate_proj", "up_proj", "down_proj"),
                *rows.shared_rows("mlp.shared_expert"),
                row("feed_forward.shared_gate", "mlp.shared_expert_gate.weight", "d o", "o d"),
            ),
        ),
    ),
)
