"""OPT (2205.01068): GPT-2's block with ReLU, and two rows of positions that nothing reads."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.entries import (
    Biases,
    Field,
    Fixed,
    Linked,
    activation,
    checked,
    vocabulary,
)
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.block_config import LayerConfig

_AFFINE = "layer_norm_elementwise_affine"


def _read_affine(values: Values) -> dict[str, Any]:
    found = values.get(_AFFINE)
    affine = checked(_AFFINE, True if found is None else found, (bool,))
    return {"norm_scale": affine, "biases.norm": affine}


def _read_width(values: Values) -> dict[str, Any]:
    # The model of 350 million has a table narrower than its stream, and norms after the parts.
    width = values.get("word_embed_proj_dim")
    return {"table_dim": None if width in (None, values["hidden_size"]) else width}


OPT = Family(
    name="opt",
    architectures=("OPTForCausalLM",),
    model_types=("opt",),
    constants={
        "layers": (LayerConfig(rope=None),),
        "norm": "layer",
        "norm_epsilon": 1e-5,
        "embedding_positions": "learned",
        "unused_positions": 2,
        "gated": False,
    },
    entries=(
        *vocabulary(tie_by_default=True),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        Field("ffn_dim", "mlp_dim"),
        Field("max_position_embeddings", "max_length"),
        activation("activation_function", "relu"),
        Biases("enable_bias", ("qkv", "attention_out", "feed_forward"), default=True),
        Linked((_AFFINE,), _read_affine, lambda config: {_AFFINE: config.norm_scale}),
        Linked(
            ("word_embed_proj_dim",),
            _read_width,
            lambda config: {"word_embed_proj_dim": config.table_width},
        ),
        Field(
            "do_layer_norm_before", "norm_placement", "pre", (bool,), {True: "pre", False: "post"}
        ),
        Fixed("_remove_final_layer_norm", False),
    ),
    inert=("activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop"),
    rows=(
        row("embedding.table", "model.decoder.embed_tokens.weight", "v d"),
        row("embedding.widen", "model.decoder.project_in.weight", "t d", "d t"),
        row("narrow", "model.decoder.project_out.weight", "d t", "t d"),
        row("embedding.positions", "model.decoder.embed_positions.weight", "t d"),
        row("stack.final_norm.scale", "model.decoder.final_layer_norm.weight", "d"),
        row("stack.final_norm.bias", "model.decoder.final_layer_norm.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "model.decoder.layers.{layer}.",
            (
                row("attention_norm.scale", "self_attn_layer_norm.weight", "d"),
                row("attention_norm.bias", "self_attn_layer_norm.bias", "d"),
                row("attention_post_norm.scale", "self_attn_layer_norm.weight", "d"),
                row("attention_post_norm.bias", "self_attn_layer_norm.bias", "d"),
                *(one for one in rows.ATTENTION if "o_proj" not in one.theirs),
                row("attention.out", "self_attn.out_proj.weight", "h w d", "d (h w)"),
                row("attention.out_bias", "self_attn.out_proj.bias", "d"),
                row("feed_forward_norm.scale", "final_layer_norm.weight", "d"),
                row("feed_forward_norm.bias", "final_layer_norm.bias", "d"),
                row("feed_forward_post_norm.scale", "final_layer_norm.weight", "d"),
                row("feed_forward_post_norm.bias", "final_layer_norm.bias", "d"),
                row("feed_forward.up", "fc1.weight", "d f", "f d"),
                row("feed_forward.up_bias", "fc1.bias", "f"),
                row("feed_forward.down", "fc2.weight", "f d", "d f"),
                row("feed_forward.down_bias", "fc2.bias", "d"),
            ),
        ),
    ),
    renames=((r"^decoder\.", "model.decoder."),),
    copies=(("lm_head.weight", "model.decoder.embed_tokens.weight"),),
)
