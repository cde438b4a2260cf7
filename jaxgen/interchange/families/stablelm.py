"""StableLM 3B and StableLM 2 (2402.17834): Llama's block with LayerNorm and partial rotation."""

from __future__ import annotations

from jaxgen.interchange.entries import Biases, Field, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.interchange.windows import rotary_layers

_NORMS = "self_attn.{}_layernorm.norms.{{expert}}.weight"

STABLELM = Family(
    name="stablelm",
    architectures=("StableLmForCausalLM", "StableLMEpochForCausalLM"),
    model_types=("stablelm", "stablelm_epoch"),
    constants={"norm": "layer", "biases.norm": True},
    entries=(
        *vocabulary(tie_by_default=False),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        Field("num_key_value_heads", "num_kv_heads", 32),
        Field("intermediate_size", "mlp_dim"),
        Field("layer_norm_eps", "norm_epsilon", 1e-5, (float,), aliases=("norm_eps",)),
        ACTIVATION,
        Biases("use_qkv_bias", ("qkv",)),
        Field("use_parallel_residual", "parallel", False, (bool,)),
        rotary_layers(fraction=0.25, qk_norm_key="qk_layernorm"),
    ),
    inert=(*rows.INERT, "hidden_dropout", "rotary_scaling_factor"),
    rows=(*rows.OUTSIDE, row("stack.final_norm.bias", "model.norm.bias", "d")),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.NORM_BIASES,
                *rows.ATTENTION,
                row(
                    "attention.query_norm.scale", "self_attn.q_layernorm.norms.{expert}.weight", "w"
                ),
                row("attention.key_norm.scale", _NORMS.format("k"), "w"),
                *rows.FEED_FORWARD,
            ),
        ),
    ),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)
