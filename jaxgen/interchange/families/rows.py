"""Rows and entries that families share, most of them Llama's descendants."""

from __future__ import annotations

from jaxgen.interchange.entries import Field, vocabulary
from jaxgen.interchange.tables import Entry, TensorRow, row

BIASES = {f"biases.{group}": True for group in ("qkv", "attention_out", "feed_forward", "norm")}
INERT = (
    "attention_dropout", "max_position_embeddings", "max_window_layers", "output_router_logits",
    "pretraining_tp", "router_aux_loss_coef",
)  # fmt: skip
UNUSED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
COPIES = (("lm_head.weight", "model.embed_tokens.weight"),)
LAYER = "model.layers.{layer}."

OUTSIDE = (
    row("embedding.table", "model.embed_tokens.weight", "v d"),
    row("stack.final_norm.scale", "model.norm.weight", "d"),
    row("unembedding", "lm_head.weight", "v d"),
)
ATTENTION = (
    row("attention.query", "self_attn.q_proj.weight", "d h w", "(h w) d"),
    row("attention.key", "self_attn.k_proj.weight", "d h w", "(h w) d"),
    row("attention.value", "self_attn.v_proj.weight", "d h w", "(h w) d"),
    row("attention.out", "self_attn.o_proj.weight", "h w d", "d (h w)"),
    row("attention.query_bias", "self_attn.q_proj.bias", "h w", "(h w)"),
    row("attention.key_bias", "self_attn.k_proj.bias", "h w", "(h w)"),
    row("attention.value_bias", "self_attn.v_proj.bias", "h w", "(h w)"),
    row("attention.out_bias", "self_attn.o_proj.bias", "d"),
)
HEAD_NORMS = (
    row("attention.query_norm.scale", "self_attn.q_norm.weight", "w"),
    row("attention.key_norm.scale", "self_attn.k_norm.weight", "w"),
)
NORMS = (
    row("attention_norm.scale", "input_layernorm.weight", "d"),
    row("feed_forward_norm.scale", "post_attention_layernorm.weight", "d"),
)
NORM_BIASES = (
    row("attention_norm.bias", "input_layernorm.bias", "d"),
    row("feed_forward_norm.bias", "post_attention_layernorm.bias", "d"),
)
FEED_FORWARD = (
    row("feed_forward.gate", "mlp.gate_proj.weight", "d f", "f d"),
    row("feed_forward.up", "mlp.up_proj.weight", "d f", "f d"),
    row("feed_forward.down", "mlp.down_proj.weight", "f d", "d f"),
    row("feed_forward.gate_bias", "mlp.gate_proj.bias", "f"),
    row("feed_forward.up_bias", "mlp.up_proj.bias", "f"),
    row("feed_forward.down_bias", "mlp.down_proj.bias", "d"),
)
FUSED_FEED_FORWARD = (
    row("feed_forward.gate feed_forward.up", "mlp.gate_up_proj.weight", "d f", "(part f) d"),
    row("feed_forward.down", "mlp.down_proj.weight", "f d", "d f"),
)


def expert_rows(prefix: str, gate: str, up: str, down: str) -> tuple[TensorRow, ...]:
    """Returns the rows of a router, and of a gate, up and down matrix for each expert."""
    expert = prefix + "experts.{expert}."
    return (
        row("feed_forward.router", f"{prefix}gate.weight", "d e", "e d"),
        row("feed_forward.gate", f"{expert}{gate}.weight", "d f", "f d"),
        row("feed_forward.up", f"{expert}{up}.weight", "d f", "f d"),
        row("feed_forward.down", f"{expert}{down}.weight", "f d", "d f"),
    )


def shared_rows(prefix: str) -> tuple[TensorRow, ...]:
    """Returns the rows of an expert that every token visits."""
    return (
        row("feed_forward.shared.gate", f"{prefix}.gate_proj.weight", "d f", "f d"),
        row("feed_forward.shared.up", f"{prefix}.up_proj.weight", "d f", "f d"),
        row("feed_forward.shared.down", f"{prefix}.down_proj.weight", "f d", "d f"),
    )


def sizes(epsilon: float | None, tie_by_default: bool = False) -> tuple[Entry, ...]:
    """Returns the entries of sizes, under the names that all these families use.

    Without a default `epsilon` the family has no key for it.
    """
    norm = (Field("rms_norm_eps", "norm_epsilon", epsilon, (float,)),) if epsilon else ()
    return (
        *vocabulary(tie_by_default),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        *norm,
    )


def heads(head_dim: int | None = None) -> tuple[Entry, ...]:
    """Returns the entries of key heads and of head width, which is `head_dim` by default."""
    return (
        Field("num_key_value_heads", "num_kv_heads", None),
        Field("head_dim", "head_dim", head_dim),
    )
