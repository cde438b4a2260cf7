"""StarCoder 2 (2402.19173): Llama's attention in a block of GPT-2's make, over a window."""

from jaxgen.interchange.entries import Biases, Field, activation, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.interchange.windows import all_windowed

STARCODER2 = Family(
    name="starcoder2",
    architectures=("Starcoder2ForCausalLM",),
    model_types=("starcoder2",),
    constants={"norm": "layer", "gated": False, "biases.norm": True},
    entries=(
        *vocabulary(tie_by_default=True),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        Field("num_key_value_heads", "num_kv_heads", 2),
        Field("intermediate_size", "mlp_dim"),
        Field("norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        activation("hidden_act", "gelu_tanh"),
        Biases("use_bias", ("qkv", "attention_out", "feed_forward")),
        all_windowed(),
    ),
    inert=(*rows.INERT, "embedding_dropout", "residual_dropout", "mlp_type", "norm_type"),
    rows=(*rows.OUTSIDE, row("stack.final_norm.bias", "model.norm.bias", "d")),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.NORM_BIASES,
                *rows.ATTENTION,
                row("feed_forward.up", "mlp.c_fc.weight", "d f", "f d"),
                row("feed_forward.up_bias", "mlp.c_fc.bias", "f"),
                row("feed_forward.down", "mlp.c_proj.weight", "f d", "d f"),
                row("feed_forward.down_bias", "mlp.c_proj.bias", "d"),
            ),
        ),
    ),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)
