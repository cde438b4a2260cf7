"""MPT (MosaicML 2023): GPT-2's block without biases, distances told by ALiBi."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.configs import attention_scale
from jaxgen.interchange.entries import Field, Fixed, Linked, among, vocabulary
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.biases import Alibi

_FIXED = {
    "attn_type": "multihead_attention", "alibi": True, "alibi_bias_max": 8, "prefix_lm": False,
    "qk_ln": False, "attn_uses_sequence_id": False,
}  # fmt: skip


def _read_attention(values: Values) -> dict[str, Any]:
    settings = values.get("attn_config") or {}
    for key, value in _FIXED.items():
        among(f"attn_config.{key}", settings.get(key, value), (value,))
    return {
        "qkv_clip": settings.get("clip_qkv") or None,
        "attention_scale": settings.get("softmax_scale"),
    }


def _write_attention(config: TransformerConfig) -> dict[str, Any]:
    more = {"clip_qkv": config.qkv_clip, "softmax_scale": attention_scale(config)}
    return {"attn_config": _FIXED | more}


def _read_width(values: Values) -> dict[str, Any]:
    return {"mlp_dim": (values.get("expansion_ratio") or 4) * values["d_model"]}


MPT = Family(
    name="mpt",
    architectures=("MptForCausalLM", "MPTForCausalLM"),
    model_types=("mpt",),
    constants={
        "layers": (LayerConfig(rope=None),),
        "norm": "layer",
        "position_bias": Alibi(),
        "activation": "gelu",
        "gated": False,
    },
    entries=(
        *vocabulary(tie_by_default=True),
        Field("d_model", "embed_dim"),
        Field("n_layers", "num_layers"),
        Field("n_heads", "num_heads"),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        Linked(("attn_config",), _read_attention, _write_attention),
        Linked(
            ("expansion_ratio",),
            _read_width,
            lambda config: {"expansion_ratio": config.mlp_dim // config.embed_dim},
        ),
        Fixed("no_bias", True),
    ),
    # transformers reads none of these, and MosaicML's own code nothing that differs.
    inert=(
        "emb_pdrop", "embedding_fraction", "init_config", "init_device", "learned_pos_emb",
        "logit_scale", "max_seq_len", "norm_type", "resid_pdrop", "tokenizer_name", "verbose",
    ),
    rows=(
        row("embedding.table", "transformer.wte.weight", "v d"),
        row("stack.final_norm.scale", "transformer.norm_f.weight", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "transformer.blocks.{layer}.",
            (
                row("attention_norm.scale", "norm_1.weight", "d"),
                row(
                    "attention.query attention.key attention.value",
                    "attn.Wqkv.weight", "d h w", "(part h w) d",
                ),
                row("attention.out", "attn.out_proj.weight", "h w d", "d (h w)"),
                row("feed_forward_norm.scale", "norm_2.weight", "d"),
                row("feed_forward.up", "ffn.up_proj.weight", "d f", "f d"),
                row("feed_forward.down", "ffn.down_proj.weight", "f d", "d f"),
            ),
        ),
    ),
    copies=(("lm_head.weight", "transformer.wte.weight"),),
)  # fmt: skip
