"""GPT-2 (Radford et al. 2019): `Conv1D` matrices lie as ours, inputs first."""

from jaxgen.interchange.entries import Field, Fixed, Linked, activation, checked, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.models.block_config import LayerConfig

GPT2 = Family(
    name="gpt2",
    architectures=("GPT2LMHeadModel",),
    model_types=("gpt2",),
    constants={
        "layers": (LayerConfig(rope=None),),
        "norm": "layer",
        "embedding_positions": "learned",
        "gated": False,
        **rows.BIASES,
    },
    entries=(
        *vocabulary(tie_by_default=True),
        Field("n_embd", "embed_dim"),
        Field("n_layer", "num_layers"),
        Field("n_head", "num_heads"),
        Field("n_positions", "max_length"),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        activation("activation_function", "gelu_tanh"),
        Linked(
            ("n_inner",),
            lambda values: {
                "mlp_dim": checked("n_inner", values.get("n_inner") or 4 * values["n_embd"], (int,))
            },
            lambda config: {"n_inner": config.mlp_dim},
        ),
        Fixed("scale_attn_weights", True),
        Fixed("scale_attn_by_inverse_layer_idx", False),
        Fixed("add_cross_attention", False),
    ),
    inert=(
        "attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "reorder_and_upcast_attn",
        "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
        "summary_use_proj",
    ),
    rows=(
        row("embedding.table", "transformer.wte.weight", "v d"),
        row("embedding.positions", "transformer.wpe.weight", "t d"),
        row("stack.final_norm.scale", "transformer.ln_f.weight", "d"),
        row("stack.final_norm.bias", "transformer.ln_f.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "transformer.h.{layer}.",
            (
                row("attention_norm.scale", "ln_1.weight", "d"),
                row("attention_norm.bias", "ln_1.bias", "d"),
                row(
                    "attention.query attention.key attention.value",
                    "attn.c_attn.weight", "d h w", "d (part h w)",
                ),
                row(
                    "attention.query_bias attention.key_bias attention.value_bias",
                    "attn.c_attn.bias", "h w", "(part h w)",
                ),
                row("attention.out", "attn.c_proj.weight", "h w d", "(h w) d"),
                row("attention.out_bias", "attn.c_proj.bias", "d"),
                row("feed_forward_norm.scale", "ln_2.weight", "d"),
                row("feed_forward_norm.bias", "ln_2.bias", "d"),
                row("feed_forward.up", "mlp.c_fc.weight", "d f"),
                row("feed_forward.up_bias", "mlp.c_fc.bias", "f"),
                row("feed_forward.down", "mlp.c_proj.weight", "f d"),
                row("feed_forward.down_bias", "mlp.c_proj.bias", "d"),
            ),
        ),
    ),
    renames=((r"^(h|wte|wpe|ln_f)\.", r"transformer.\1."),),
    unused=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",),
    copies=(("lm_head.weight", "transformer.wte.weight"),),
)  # fmt: skip
