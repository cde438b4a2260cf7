"""Granite 3 (IBM 2024): Llama's block between multipliers, dense or with experts in every layer."""

from __future__ import annotations

import dataclasses

from jaxgen.interchange.configs import attention_scale
from jaxgen.interchange.entries import Biases, Field, Linked, checked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, ATTENTION_BIAS, LLAMA
from jaxgen.interchange.tables import Entry, StackTable, row
from jaxgen.interchange.windows import rotary_layers

_ENTRIES: tuple[Entry, ...] = (
    *rows.sizes(1e-6),
    *rows.heads(),
    ACTIVATION,
    ATTENTION_BIAS,
    rotary_layers(),
    Field("embedding_multiplier", "embedding_factor", 1.0, (float,)),
    Field("residual_multiplier", "residual_factor", 1.0, (float,)),
    Linked(
        ("attention_multiplier",),
        lambda values: {"attention_scale": values.get("attention_multiplier", 1.0)},
        lambda config: {"attention_multiplier": attention_scale(config)},
    ),
    Linked(
        ("logits_scaling",),
        lambda values: {
            "logit_factor": 1
            / checked("logits_scaling", values.get("logits_scaling", 1.0), (float,))
        },
        lambda config: {"logits_scaling": 1 / config.logit_factor},
    ),
)

GRANITE = dataclasses.replace(
    LLAMA,
    name="granite",
    architectures=("GraniteForCausalLM",),
    model_types=("granite",),
    entries=(
        *_ENTRIES,
        Field("intermediate_size", "mlp_dim"),
        Biases("mlp_bias", ("feed_forward",)),
    ),
)

_EXPERTS = "block_sparse_moe"
GRANITE_MOE = dataclasses.replace(
    LLAMA,
    name="granite_moe",
    architectures=("GraniteMoeForCausalLM",),
    model_types=("granitemoe",),
    entries=(
        *_ENTRIES,
        Field("num_local_experts", "moe.num_experts", 8, aliases=("num_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 2),
        Field("intermediate_size", "moe.mlp_dim"),
        # No layer is dense, but the field needs a number.
        Linked((), lambda values: {"mlp_dim": values["intermediate_size"]}, lambda config: {}),
    ),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                row("feed_forward.router", f"{_EXPERTS}.router.layer.weight", "d e", "e d"),
                row(
                    "feed_forward.gate feed_forward.up",
                    f"{_EXPERTS}.input_linear.weight", "e d f", "e (part f) d",
                ),
                row("feed_forward.down", f"{_EXPERTS}.output_linear.weight", "e f d", "e d f"),
            ),
        ),
    ),
)  # fmt: skip
