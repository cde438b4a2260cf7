"""Nemotron-4 and Minitron (2402.16819, 2407.14679): squared ReLU, LayerNorm of 1 + scale."""

from __future__ import annotations

from jaxgen.interchange.entries import Biases, Field, activation, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ATTENTION_BIAS
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.interchange.windows import rotary_layers

NEMOTRON = Family(
    name="nemotron",
    architectures=("NemotronForCausalLM",),
    model_types=("nemotron",),
    constants={"norm": "layer", "norm_unit_offset": True, "gated": False, "biases.norm": True},
    entries=(
        *vocabulary(tie_by_default=False),
        Field("hidden_size", "embed_dim"),
        Field("num_hidden_layers", "num_layers"),
        Field("num_attention_heads", "num_heads"),
        *rows.heads(),
        Field("intermediate_size", "mlp_dim"),
        Field("norm_eps", "norm_epsilon", 1e-5, (float,)),
        activation("hidden_act", "relu2"),
        ATTENTION_BIAS,
        Biases("mlp_bias", ("feed_forward",)),
        rotary_layers(fraction=0.5),
    ),
    inert=rows.INERT,
    rows=(*rows.OUTSIDE, row("stack.final_norm.bias", "model.norm.bias", "d")),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (*rows.NORMS, *rows.NORM_BIASES, *rows.ATTENTION, *rows.FEED_FORWARD),
        ),
    ),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)
