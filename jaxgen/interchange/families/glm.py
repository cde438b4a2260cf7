"""GLM-4 (2406.12793): half of each head rotated in neighbouring pairs, few key heads."""

from __future__ import annotations

import dataclasses

from jaxgen.interchange.entries import Biases, Field
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, LLAMA
from jaxgen.interchange.tables import StackTable, row
from jaxgen.interchange.windows import rotary_layers

GLM = dataclasses.replace(
    LLAMA,
    name="glm",
    architectures=("GlmForCausalLM",),
    model_types=("glm",),
    entries=(
        *rows.sizes(1.5625e-07),
        Field("num_key_value_heads", "num_kv_heads", 2),
        Field("head_dim", "head_dim", 128),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        Biases("attention_bias", ("qkv",), default=True),
        rotary_layers(interleaved=True, fraction=0.5),
    ),
    # A file without the key is taken to pad with token 151,329, whatever its vocabulary.
    written={"pad_token_id": None},
    stacks=(
        StackTable("stack", rows.LAYER, (*rows.NORMS, *rows.ATTENTION, *rows.FUSED_FEED_FORWARD)),
    ),
)

GLM4 = dataclasses.replace(
    GLM,
    name="glm4",
    architectures=("Glm4ForCausalLM",),
    model_types=("glm4",),
    constants={"norm_placement": "both"},
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                row("attention_post_norm.scale", "post_self_attn_layernorm.weight", "d"),
                row("feed_forward_post_norm.scale", "post_mlp_layernorm.weight", "d"),
                *rows.ATTENTION,
                *rows.FUSED_FEED_FORWARD,
            ),
        ),
    ),
)
