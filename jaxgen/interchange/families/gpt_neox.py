"""GPT-NeoX (2204.06745), of which Pythia's models (2304.01373) are."""

from __future__ import annotations

from jaxgen.interchange.entries import Biases, Field, Linked, activation, checked, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.positions import Rope


def _read_parallel(values: Values) -> dict[str, int | bool]:
    found = values.get("use_parallel_residual")
    parallel = checked("use_parallel_residual", True if found is None else found, (bool,))
    return {"parallel": parallel, "parallel_norms": 2 if parallel else 1}


def _read_layers(values: Values) -> dict[str, tuple[LayerConfig, ...]]:
    base, fraction = values.get("rotary_emb_base") or 1e4, values.get("rotary_pct") or 0.25
    return {"layers": (LayerConfig(rope=read_rope(values, base=base, fraction=fraction)),)}


def _write_layers(config: TransformerConfig) -> dict[str, object]:
    rope = config.layers[0].rope or Rope()
    written = write_rope(rope)
    return written | {"rotary_emb_base": written.pop("rope_theta"), "rotary_pct": rope.fraction}


GPT_NEOX = Family(
    name="gpt_neox",
    architectures=("GPTNeoXForCausalLM",),
    model_types=("gpt_neox",),
    constants={
        "norm": "layer",
        "gated": False,
        "biases.feed_forward": True,
        "biases.norm": True,
    },
    entries=(
        *vocabulary(tie_by_default=False),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        Field("intermediate_size", "mlp_dim"),
        Field("layer_norm_eps", "norm_epsilon", 1e-5, (float,)),
        activation("hidden_act", "gelu"),
        Biases("attention_bias", ("qkv", "attention_out"), default=True),
        Linked(
            ("use_parallel_residual",),
            _read_parallel,
            lambda config: {"use_parallel_residual": config.parallel},
        ),
        Linked((*ROPE_KEYS, "rotary_emb_base", "rotary_pct"), _read_layers, _write_layers),
    ),
    inert=(*rows.INERT, "hidden_dropout"),
    rows=(
        row("embedding.table", "gpt_neox.embed_in.weight", "v d"),
        row("stack.final_norm.scale", "gpt_neox.final_layer_norm.weight", "d"),
        row("stack.final_norm.bias", "gpt_neox.final_layer_norm.bias", "d"),
        row("unembedding", "embed_out.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "gpt_neox.layers.{layer}.",
            (
                *rows.NORMS,
                *rows.NORM_BIASES,
                row(
                    "attention.query attention.key attention.value",
                    "attention.query_key_value.weight", "d h w", "(h part w) d",
                ),
                row(
                    "attention.query_bias attention.key_bias attention.value_bias",
                    "attention.query_key_value.bias", "h w", "(h part w)",
                ),
                row("attention.out", "attention.dense.weight", "h w d", "d (h w)"),
                row("attention.out_bias", "attention.dense.bias", "d"),
                row("feed_forward.up", "mlp.dense_h_to_4h.weight", "d f", "f d"),
                row("feed_forward.up_bias", "mlp.dense_h_to_4h.bias", "f"),
                row("feed_forward.down", "mlp.dense_4h_to_h.weight", "f d", "d f"),
                row("feed_forward.down_bias", "mlp.dense_4h_to_h.bias", "d"),
            ),
        ),
    ),
    # As transformers 5 names it in memory.
    renames=((r"^lm_head\.", "embed_out."),),
    unused=(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    copies=(("embed_out.weight", "gpt_neox.embed_in.weight"),),
)  # fmt: skip
