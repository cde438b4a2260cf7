"""Phi-3 (2404.14219) and Phi-4 (2412.08905): Llama with one matrix to queries, keys and values."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.interchange.entries import Field, Linked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, LLAMA
from jaxgen.interchange.tables import StackTable, row
from jaxgen.interchange.windows import all_windowed
from jaxgen.models.config import TransformerConfig

_ORIGINAL = "original_max_position_embeddings"


def _write_original(config: TransformerConfig) -> dict[str, Any]:
    rope = config.layers[0].rope
    scaling = None if rope is None else rope.scaling
    return {_ORIGINAL: scaling.original_length} if scaling and scaling.original_length else {}


PHI3 = dataclasses.replace(
    LLAMA,
    name="phi3",
    architectures=("Phi3ForCausalLM",),
    model_types=("phi3",),
    entries=(
        *rows.sizes(1e-5),
        Field("num_key_value_heads", "num_kv_heads", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        all_windowed(fraction=1.0),
        # transformers prefers this key, which it has a default of, to the one in rope_scaling.
        Linked((_ORIGINAL,), lambda values: {}, _write_original),
    ),
    inert=(
        *rows.INERT, "embd_pdrop", "resid_pdrop",
    ),
    # A file without the key is taken to pad with token 32,000, whatever its vocabulary.
    written={"pad_token_id": None},
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                row(
                    "attention.query attention.key attention.value",
                    "self_attn.qkv_proj.weight", "d h w", "(part h w) d",
                ),
                row("attention.out", "self_attn.o_proj.weight", "h w d", "d (h w)"),
                *rows.FUSED_FEED_FORWARD,
            ),
        ),
    ),
)  # fmt: skip
