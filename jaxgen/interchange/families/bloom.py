"""BLOOM (2211.05100): queries, keys and values lie in one matrix, head by head."""

from jaxgen.interchange.entries import Field, Fixed, Linked, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.biases import Alibi

BLOOM = Family(
    name="bloom",
    architectures=("BloomForCausalLM",),
    model_types=("bloom",),
    constants={
        "layers": (LayerConfig(rope=None),),
        "norm": "layer",
        "embedding_norm": True,
        "position_bias": Alibi(),
        "activation": "gelu_tanh",
        "gated": False,
        **rows.BIASES,
    },
    entries=(
        *vocabulary(tie_by_default=True),
        Field("hidden_size", "embed_dim", aliases=("n_embed",)),
        Field("n_layer", "num_layers", aliases=("num_hidden_layers",)),
        Field("n_head", "num_heads", aliases=("num_attention_heads",)),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        Linked(
            (),
            lambda values: {"mlp_dim": 4 * (values.get("hidden_size") or values["n_embed"])},
            lambda config: {},
        ),
        Fixed("apply_residual_connection_post_layernorm", False),
    ),
    inert=(
        "attention_dropout", "attention_softmax_in_fp32", "bias_dropout_fusion", "hidden_dropout",
        "masked_softmax_fusion", "offset_alibi", "pretraining_tp", "seq_length", "skip_bias_add",
        "skip_bias_add_qkv", "slow_but_exact",
    ),
    rows=(
        row("embedding.table", "transformer.word_embeddings.weight", "v d"),
        row("embedding.norm.scale", "transformer.word_embeddings_layernorm.weight", "d"),
        row("embedding.norm.bias", "transformer.word_embeddings_layernorm.bias", "d"),
        row("stack.final_norm.scale", "transformer.ln_f.weight", "d"),
        row("stack.final_norm.bias", "transformer.ln_f.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "transformer.h.{layer}.",
            (
                row("attention_norm.scale", "input_layernorm.weight", "d"),
                row("attention_norm.bias", "input_layernorm.bias", "d"),
                row(
                    "attention.query attention.key attention.value",
                    "self_attention.query_key_value.weight", "d h w", "(h part w) d",
                ),
                row(
                    "attention.query_bias attention.key_bias attention.value_bias",
                    "self_attention.query_key_value.bias", "h w", "(h part w)",
                ),
                row("attention.out", "self_attention.dense.weight", "h w d", "d (h w)"),
                row("attention.out_bias", "self_attention.dense.bias", "d"),
                row("feed_forward_norm.scale", "post_attention_layernorm.weight", "d"),
                row("feed_forward_norm.bias", "post_attention_layernorm.bias", "d"),
                row("feed_forward.up", "mlp.dense_h_to_4h.weight", "d f", "f d"),
                row("feed_forward.up_bias", "mlp.dense_h_to_4h.bias", "f"),
                row("feed_forward.down", "mlp.dense_4h_to_h.weight", "f d", "d f"),
                row("feed_forward.down_bias", "mlp.dense_4h_to_h.bias", "d"),
            ),
        ),
    ),
    renames=((r"^(h|word_embeddings|word_embeddings_layernorm|ln_f)\.", r"transformer.\1."),),
    copies=(("lm_head.weight", "transformer.word_embeddings.weight"),),
)  # fmt: skip
