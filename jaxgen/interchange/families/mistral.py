"""Mistral 7B (2310.06825), its successors, and Mixtral (2401.04088)."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Linked, checked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, LLAMA
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import StackTable, Values
from jaxgen.interchange.windows import (
    GLOBAL,
    LOCAL,
    all_windowed,
    read_types,
    windowed_layers,
)
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.positions import LogTemperature, Rope

MISTRAL = dataclasses.replace(
    LLAMA,
    name="mistral",
    architectures=("MistralForCausalLM",),
    model_types=("mistral",),
    entries=(
        *rows.sizes(1e-6),
        Field("num_key_value_heads", "num_kv_heads", 8),
        Field("head_dim", "head_dim", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        all_windowed(window=4096),
    ),
)

MINISTRAL = dataclasses.replace(
    MISTRAL,
    name="ministral",
    architectures=("MinistralForCausalLM",),
    model_types=("ministral",),
    entries=(
        *MISTRAL.entries[:-1],
        windowed_layers(
            ("layer_types",),
            read_types(
                lambda values, count: (
                    [LOCAL if values.get("sliding_window", 4096) else GLOBAL] * count
                )
            ),
            lambda config, kinds, window: {"layer_types": kinds, "sliding_window": window},
            window=4096,
        ),
    ),
)

_BETA = "llama_4_scaling_beta"


def _read_grown(values: Values) -> dict[str, Any]:
    """Returns layers whose queries grow with their position."""
    settings = dict(values.get("rope_parameters") or {})
    length = settings.get("original_max_position_embeddings")
    if not length or settings.get(_BETA) is None:
        raise InterchangeError(
            f"config.json lacks rope_parameters.{_BETA} or original_max_position_embeddings."
        )
    growth = LogTemperature(checked(_BETA, settings.pop(_BETA), (float,)), length, offset=0)
    settings.pop("max_position_embeddings", None)
    rope = read_rope({**values, "rope_parameters": settings})
    return {"layers": (LayerConfig(rope=rope, temperature=growth),)}


def _write_grown(config: TransformerConfig) -> dict[str, Any]:
    layer = config.layers[0]
    written, growth = write_rope(layer.rope or Rope()), layer.temperature or LogTemperature()
    settings = {"original_max_position_embeddings": growth.floor_length}
    settings |= written["rope_scaling"] or {"rope_type": "default"}
    return {
        "rope_parameters": settings | {"rope_theta": written["rope_theta"], _BETA: growth.scale}
    }


MINISTRAL3 = dataclasses.replace(
    MISTRAL,
    name="ministral3",
    architectures=("Ministral3ForCausalLM",),
    model_types=("ministral3",),
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", 8),
        Field("head_dim", "head_dim", 128),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        Linked(ROPE_KEYS, _read_grown, _write_grown),
    ),
    # No file has windows, and transformers' masks would have them without the key.
    written={"sliding_window": None},
)

MIXTRAL = dataclasses.replace(
    LLAMA,
    name="mixtral",
    architectures=("MixtralForCausalLM",),
    model_types=("mixtral",),
    entries=(
        *rows.sizes(1e-5),
        *rows.heads(),
        ACTIVATION,
        Field("num_local_experts", "moe.num_experts", aliases=("num_experts",)),
        Field("num_experts_per_tok", "moe.experts_per_token", 2),
        Field("intermediate_size", "moe.mlp_dim"),
        # No layer is dense, but the field needs a number.
        Linked((), lambda values: {"mlp_dim": values["intermediate_size"]}, lambda config: {}),
        all_windowed(base=1_000_000.0),
    ),
    inert=(*rows.INERT, "router_jitter_noise"),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                *rows.expert_rows("block_sparse_moe.", "w1", "w3", "w2"),
            ),
        ),
    ),
)
