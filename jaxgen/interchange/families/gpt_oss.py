"""gpt-oss (2508.10925): attention with sinks, windows in turn, experts with biases."""

from __future__ import annotations

import dataclasses

from jaxgen.interchange.entries import Biases, Field, Fixed, Linked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import LLAMA
from jaxgen.interchange.tables import StackTable, Values, row
from jaxgen.interchange.windows import GLOBAL, LOCAL, read_types, windowed_layers
from jaxgen.ops.experts import CLIPPED_SLOPE


def _alternating(values: Values, count: int) -> list[str]:
    del values
    return [GLOBAL if layer % 2 else LOCAL for layer in range(count)]


_EXPERTS = "mlp.experts"

GPT_OSS = dataclasses.replace(
    LLAMA,
    name="gpt_oss",
    architectures=("GptOssForCausalLM",),
    model_types=("gpt_oss",),
    constants={"attention_sinks": True, "moe.biases": True},
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", 8),
        Field("head_dim", "head_dim", 64),
        Biases("attention_bias", ("qkv", "attention_out"), default=True),
        Field("num_local_experts", "moe.num_experts", 128, aliases=("num_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 4, aliases=("experts_per_token",)),
        Field("intermediate_size", "moe.mlp_dim"),
        # No layer is dense, but the field needs a number.
        Linked((), lambda values: {"mlp_dim": values["intermediate_size"]}, lambda config: {}),
        Field("swiglu_limit", "moe.clip", 7.0, (float,)),
        Fixed("swiglu_alpha", CLIPPED_SLOPE),
        Fixed("hidden_act", "silu"),
        windowed_layers(
            ("layer_types",),
            read_types(_alternating),
            lambda config, kinds, window: {"layer_types": kinds, "sliding_window": window},
            base=150_000.0,
            window=128,
        ),
    ),
    inert=(*rows.INERT, "initial_context_length"),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                row("attention.sinks", "self_attn.sinks", "h"),
                row("feed_forward.router", "mlp.router.weight", "d e", "e d"),
                row("feed_forward.router_shift", "mlp.router.bias", "e"),
                row(
                    "feed_forward.gate feed_forward.up",
                    f"{_EXPERTS}.gate_up_proj", "e d f", "e d (f part)",
                ),
                row(
                    "feed_forward.gate_bias feed_forward.up_bias",
                    f"{_EXPERTS}.gate_up_proj_bias", "e f", "e (f part)",
                ),
                row("feed_forward.down", f"{_EXPERTS}.down_proj", "e f d"),
                row("feed_forward.down_bias", f"{_EXPERTS}.down_proj_bias", "e d"),
            ),
        ),
    ),
)  # fmt: skip
