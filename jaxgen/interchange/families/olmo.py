"""OLMo 1 (2402.00838), whose norms learn nothing, OLMoE (2409.02060), OLMo 2 (2501.00656) and 3."""

from __future__ import annotations

import dataclasses

from jaxgen.interchange.entries import Field, Linked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, ATTENTION_BIAS, LLAMA
from jaxgen.interchange.tables import StackTable, Values, row
from jaxgen.interchange.windows import GLOBAL, LOCAL, read_types, rotary_layers, windowed_layers

_CLIP = Field("clip_qkv", "qkv_clip", None, (float,))
_WIDE_NORMS = (
    row("attention.query_norm.scale", "self_attn.q_norm.weight", "h w", "(h w)"),
    row("attention.key_norm.scale", "self_attn.k_norm.weight", "h w", "(h w)"),
)

OLMO = dataclasses.replace(
    LLAMA,
    name="olmo",
    architectures=("OlmoForCausalLM",),
    model_types=("olmo",),
    constants={"norm": "layer", "norm_scale": False, "norm_epsilon": 1e-5},
    entries=(
        *rows.sizes(None),
        *rows.heads(),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        _CLIP,
        rotary_layers(),
    ),
    rows=tuple(one for one in rows.OUTSIDE if "norm" not in one.theirs),
    stacks=(StackTable("stack", rows.LAYER, (*rows.ATTENTION, *rows.FEED_FORWARD)),),
)

OLMOE = dataclasses.replace(
    LLAMA,
    name="olmoe",
    architectures=("OlmoeForCausalLM",),
    model_types=("olmoe",),
    entries=(
        *rows.sizes(1e-5),
        *rows.heads(),
        ACTIVATION,
        ATTENTION_BIAS,
        _CLIP,
        Field("num_experts", "moe.num_experts", 64, aliases=("num_local_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 8),
        Field("norm_topk_prob", "moe.normalize_top_k", False, (bool,)),
        Field("intermediate_size", "moe.mlp_dim"),
        # No layer is dense, but the field needs a number.
        Linked((), lambda values: {"mlp_dim": values["intermediate_size"]}, lambda config: {}),
        rotary_layers(qk_norm="width"),
    ),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *_WIDE_NORMS,
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
                *_WIDE_NORMS,
                *rows.FEED_FORWARD,
            ),
        ),
    ),
)


def _three_of_four(values: Values, count: int) -> list[str]:
    del values
    return [LOCAL if (layer + 1) % 4 else GLOBAL for layer in range(count)]


OLMO3 = dataclasses.replace(
    OLMO2,
    name="olmo3",
    architectures=("Olmo3ForCausalLM",),
    model_types=("olmo3",),
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        windowed_layers(
            ("layer_types",),
            read_types(_three_of_four),
            lambda config, kinds, window: {"layer_types": kinds, "sliding_window": window},
            qk_norm="width",
            base=500_000.0,
            window=4096,
            # transformers takes this base for them, whatever rope_theta says.
            local_base=500_000.0,
        ),
    ),
)
