"""DeepSeek-V2 (2405.04434) and V3 (2412.19437): latent attention, shared and routed experts.

The modules of V3 that predict further tokens are the layers after the last, where a file has them:
what transformers has saved says how many they were, and has none. The embedding and the head that
they repeat are compared with the model's and not written.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Fixed, Linked, activation, among
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Entry, Family, StackTable, Values, row
from jaxgen.interchange.windows import rotary_layers
from jaxgen.models.config import TransformerConfig


def _read_shared(values: Values) -> dict[str, Any]:
    count = values.get("n_shared_experts") or 0
    return {"moe.shared_mlp_dim": count * values["moe_intermediate_size"]}


def _write_shared(config: TransformerConfig) -> dict[str, Any]:
    moe = config.moe
    return {"n_shared_experts": moe.shared_mlp_dim // moe.mlp_dim if moe else 0}


def _read_heads(values: Values) -> dict[str, Any]:
    # Keys are computed for every query head, whatever this value is.
    heads = values["num_attention_heads"]
    among("num_key_value_heads", values.get("num_key_value_heads") or heads, (heads,))
    return {}


_ENTRIES: tuple[Entry, ...] = (
    *rows.sizes(1e-6),
    # The norms of the latents use this epsilon, whatever the other norms use.
    Fixed("rms_norm_eps", 1e-6),
    Field("intermediate_size", "mlp_dim"),
    activation("hidden_act", "silu"),
    Linked(
        ("num_key_value_heads",),
        _read_heads,
        lambda config: {"num_key_value_heads": config.num_heads},
    ),
    Fixed("attention_bias", False),
    Field("kv_lora_rank", "latent.kv_rank"),
    Field("q_lora_rank", "latent.query_rank", None),
    Field("qk_nope_head_dim", "latent.nope_dim"),
    Field("qk_rope_head_dim", "latent.rope_dim"),
    Field("v_head_dim", "latent.value_dim"),
    Field("n_routed_experts", "moe.num_experts", aliases=("num_local_experts", "num_experts")),
    Field("num_experts_per_tok", "moe.experts_per_token"),
    Field("moe_intermediate_size", "moe.mlp_dim"),
    Field("first_k_dense_replace", "moe.first", 0),
    Field("routed_scaling_factor", "moe.scale", 1.0, (float,)),
    Linked(("n_shared_experts",), _read_shared, _write_shared),
    Fixed("moe_layer_freq", 1),
)
_INERT = (
    *rows.INERT, "aux_loss_alpha", "ep_size", "head_dim", "qk_head_dim", "seq_aux",
)  # fmt: skip
_ROWS = (
    *rows.NORMS,
    row("attention.query", "self_attn.q_proj.weight", "d h w", "(h w) d"),
    row("attention.query_down", "self_attn.q_a_proj.weight", "d r", "r d"),
    row("attention.query_norm.scale", "self_attn.q_a_layernorm.weight", "r"),
    row("attention.query_up", "self_attn.q_b_proj.weight", "r h w", "(h w) r"),
    row("attention.kv_down", "self_attn.kv_a_proj_with_mqa.weight", "d r", "r d"),
    row("attention.kv_norm.scale", "self_attn.kv_a_layernorm.weight", "r"),
    row("attention.kv_up", "self_attn.kv_b_proj.weight", "r h w", "(h w) r"),
    row("attention.out", "self_attn.o_proj.weight", "h w d", "d (h w)"),
    *rows.FEED_FORWARD,
    *rows.expert_rows("mlp.", "gate_proj", "up_proj", "down_proj"),
    row("feed_forward.router_bias", "mlp.gate.e_score_correction_bias", "e"),
    *rows.shared_rows("mlp.shared_experts"),
)

_MODULE_ROWS = (
    row("hidden_norm.scale", "hnorm.weight", "d"),
    row("embedding_norm.scale", "enorm.weight", "d"),
    row("from_embedding from_hidden", "eh_proj.weight", "d e", "e (part d)"),
    row("stack.final_norm.scale", "shared_head.norm.weight", "d"),
)

DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    architectures=("DeepseekV3ForCausalLM",),
    model_types=("deepseek_v3",),
    constants={"moe.scores": "sigmoid", "moe.bias_balancing": True},
    entries=(
        *_ENTRIES,
        Field("n_group", "moe.groups", 1),
        Field("topk_group", "moe.groups_per_token", 1),
        Field("norm_topk_prob", "moe.normalize_top_k", True, (bool,)),
        Fixed("scoring_func", "sigmoid"),
        Fixed("topk_method", "noaux_tc"),
        # How many modules a file has is read off its tensors.
        Linked(
            ("num_nextn_predict_layers",),
            lambda values: {},
            lambda config: {"num_nextn_predict_layers": config.mtp_depth},
        ),
        rotary_layers(scales_logits=True, interleaved=None),
    ),
    inert=_INERT,
    rows=rows.OUTSIDE,
    stacks=(StackTable("stack", rows.LAYER, _ROWS),),
    unused=rows.UNUSED,
    copies=rows.COPIES,
    extra_layers="num_nextn_predict_layers",
    module_rows=_MODULE_ROWS,
    module_copies=(
        ("embed_tokens.weight", "model.embed_tokens.weight"),
        ("shared_head.head.weight", "lm_head.weight"),
    ),
)


def _read_groups(values: Values) -> dict[str, Any]:
    method = among(
        "topk_method", values.get("topk_method") or "greedy", ("greedy", "group_limited_greedy")
    )
    if method == "greedy":
        return {}
    groups, chosen = values.get("n_group"), values.get("topk_group")
    if not groups or not chosen:
        raise InterchangeError(
            f"config.json says topk_method={method!r} but n_group={groups}, topk_group={chosen}."
        )
    return {"moe.groups": groups, "moe.groups_per_token": chosen}


def _write_groups(config: TransformerConfig) -> dict[str, Any]:
    groups = config.moe.groups if config.moe else 1
    chosen = config.moe.groups_per_token if config.moe else 1
    method = "group_limited_greedy" if groups > 1 else "greedy"
    return {"topk_method": method, "n_group": groups, "topk_group": chosen}


DEEPSEEK_V2 = dataclasses.replace(
    DEEPSEEK_V3,
    name="deepseek_v2",
    architectures=("DeepseekV2ForCausalLM",),
    model_types=("deepseek_v2",),
    constants={"moe.normalize_top_k": False},
    entries=(
        *_ENTRIES,
        Linked(("topk_method", "n_group", "topk_group"), _read_groups, _write_groups),
        Fixed("norm_topk_prob", False),
        Fixed("scoring_func", "softmax"),
        Fixed("mlp_bias", False),
        rotary_layers(scales_logits=True, interleaved=True),
    ),
    written={},
    inert=(*_INERT, "num_nextn_predict_layers"),
    module_rows=(),
    module_copies=(),
)
