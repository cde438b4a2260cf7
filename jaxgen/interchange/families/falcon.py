"""Falcon (2311.16867): attention and feed-forward side by side, one or a few key heads."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.interchange.entries import Biases, Field, Linked, activation, checked, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Entry, Family, StackTable, Values, row
from jaxgen.interchange.windows import rotary_layers
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.biases import Alibi


def _read_heads(values: Values) -> dict[str, Any]:
    heads = values.get("num_attention_heads") or values["n_head"]
    if not values.get("new_decoder_architecture") and values.get("multi_query", True):
        heads = 1
    elif values.get("new_decoder_architecture"):
        heads = values.get("num_kv_heads") or values.get("n_head_kv") or heads
    return {"num_kv_heads": checked("num_kv_heads", heads, (int,))}


def _has_two_norms(values: Values) -> bool:
    norms = values.get("num_ln_in_parallel_attn") or 2
    return bool(values.get("new_decoder_architecture")) and _is_parallel(values) and norms == 2


def _is_parallel(values: Values) -> bool:
    return values.get("parallel_attn") is not False


def _read_alibi(values: Values) -> dict[str, Any]:
    if not checked("alibi", values.get("alibi") or False, (bool,)):
        return {}
    heads = values.get("num_attention_heads") or values["n_head"]
    bias = Alibi((values["hidden_size"] // heads) ** -0.5)  # Scaled as logits are, only here.
    return {"layers": (LayerConfig(rope=None),), "position_bias": bias}


def _entries(two_norms: bool) -> tuple[Entry, ...]:
    def read_norms(values: Values) -> dict[str, Any]:
        return {"parallel": _is_parallel(values), "parallel_norms": 2 if two_norms else 1}

    return (
        *vocabulary(tie_by_default=True),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers", aliases=("n_layer",)),
        Field("num_attention_heads", "num_heads", aliases=("n_head",)),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        activation("activation", "gelu"),
        Biases("bias", ("qkv", "attention_out", "feed_forward")),
        Linked(
            ("ffn_hidden_size",),
            lambda values: {"mlp_dim": values.get("ffn_hidden_size") or 4 * values["hidden_size"]},
            lambda config: {"ffn_hidden_size": config.mlp_dim},
        ),
        Linked(("multi_query", "num_kv_heads", "n_head_kv"), _read_heads, _write_kind),
        Linked(
            ("new_decoder_architecture", "parallel_attn", "num_ln_in_parallel_attn"),
            read_norms,
            lambda config: {},
        ),
        rotary_layers(),
        Linked(("alibi",), _read_alibi, lambda config: {"alibi": config.position_bias is not None}),
    )


def _write_kind(config: TransformerConfig) -> dict[str, Any]:
    new = config.parallel and (config.parallel_norms > 1 or 1 < config.kv_heads < config.num_heads)
    return {
        "new_decoder_architecture": new,
        "parallel_attn": config.parallel,
        "multi_query": config.kv_heads == 1,
        "num_kv_heads": config.kv_heads,
        "num_ln_in_parallel_attn": config.parallel_norms if new else None,
    }


_ROWS = (
    row(
        "attention.query attention.key attention.value",
        "self_attention.query_key_value.weight", "d (n g) w", "(n part g w) d",
    ),
    row(
        "attention.query_bias attention.key_bias attention.value_bias",
        "self_attention.query_key_value.bias", "(n g) w", "(n part g w)",
    ),
    row("attention.out", "self_attention.dense.weight", "h w d", "d (h w)"),
    row("attention.out_bias", "self_attention.dense.bias", "d"),
    row("feed_forward.up", "mlp.dense_h_to_4h.weight", "d f", "f d"),
    row("feed_forward.up_bias", "mlp.dense_h_to_4h.bias", "f"),
    row("feed_forward.down", "mlp.dense_4h_to_h.weight", "f d", "d f"),
    row("feed_forward.down_bias", "mlp.dense_4h_to_h.bias", "d"),
)  # fmt: skip
_LAYER = "transformer.h.{layer}."

FALCON = Family(
    name="falcon",
    architectures=("FalconForCausalLM",),
    model_types=("falcon", "RefinedWebModel", "RefinedWeb"),
    constants={"norm": "layer", "gated": False, "biases.norm": True},
    entries=_entries(two_norms=False),
    inert=(*rows.INERT, "apply_residual_connection_post_layernorm", "hidden_dropout"),
    rows=(
        row("embedding.table", "transformer.word_embeddings.weight", "v d"),
        row("stack.final_norm.scale", "transformer.ln_f.weight", "d"),
        row("stack.final_norm.bias", "transformer.ln_f.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(StackTable("stack", _LAYER, (*rows.NORMS, *rows.NORM_BIASES, *_ROWS)),),
    accepts=lambda values: not _has_two_norms(values),
    copies=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)

# Those of 40 and 180 billion have a norm for each part.
FALCON_TWO_NORMS = dataclasses.replace(
    FALCON,
    name="falcon_two_norms",
    entries=_entries(two_norms=True),
    stacks=(
        StackTable(
            "stack",
            _LAYER,
            (
                row("attention_norm.scale", "ln_attn.weight", "d"),
                row("attention_norm.bias", "ln_attn.bias", "d"),
                row("feed_forward_norm.scale", "ln_mlp.weight", "d"),
                row("feed_forward_norm.bias", "ln_mlp.bias", "d"),
                *_ROWS,
            ),
        ),
    ),
    accepts=_has_two_norms,
)
