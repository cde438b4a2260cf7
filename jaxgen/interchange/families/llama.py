"""Llama 1 to 3, and the entries and rows of the many that change one thing in it."""

from __future__ import annotations

from jaxgen.interchange.entries import Biases, Field, activation
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable
from jaxgen.interchange.windows import rotary_layers

ATTENTION_BIAS = Biases("attention_bias", ("qkv", "attention_out"))
ACTIVATION = activation("hidden_act", "silu")

LLAMA = Family(
    name="llama",
    architectures=("LlamaForCausalLM",),
    model_types=("llama",),
    entries=(
        *rows.sizes(1e-6),
        *rows.heads(),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        Biases("mlp_bias", ("feed_forward",)),
        rotary_layers(),
    ),
    inert=rows.INERT,
    rows=rows.OUTSIDE,
    stacks=(StackTable("stack", rows.LAYER, (*rows.NORMS, *rows.ATTENTION, *rows.FEED_FORWARD)),),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)
