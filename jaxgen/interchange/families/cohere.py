"""Command R (Cohere 2024): attention and feed-forward side by side behind one LayerNorm."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.interchange.entries import Field, Linked, checked, vocabulary
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, ATTENTION_BIAS
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import Entry, Family, StackTable, Values, row
from jaxgen.interchange.windows import (
    GLOBAL,
    LOCAL,
    layer_types,
    layers_in_order,
    read_types,
    rotary_layers,
    shortest_period,
)
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.masks import Causal, Window
from jaxgen.ops.positions import Rope

_ENTRIES: tuple[Entry, ...] = (
    *vocabulary(tie_by_default=True),
    Field("hidden_size", "embed_dim"),
    Field("num_hidden_layers", "num_layers"),
    Field("num_attention_heads", "num_heads"),
    *rows.heads(),
    Field("intermediate_size", "mlp_dim"),
    Field("layer_norm_eps", "norm_epsilon", 1e-5, (float,)),
    Field("logit_scale", "logit_factor", 0.0625, (float,)),
    ACTIVATION,
    ATTENTION_BIAS,
)

COHERE = Family(
    name="cohere",
    architectures=("CohereForCausalLM",),
    model_types=("cohere",),
    constants={"norm": "layer", "parallel": True},
    entries=(
        *_ENTRIES,
        rotary_layers(interleaved=True, base=500_000.0, qk_norm_key="use_qk_norm"),
    ),
    inert=rows.INERT,
    rows=rows.OUTSIDE,
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                *rows.NORMS,
                *rows.ATTENTION,
                row("attention.query_norm.scale", "self_attn.q_norm.weight", "h w"),
                row("attention.key_norm.scale", "self_attn.k_norm.weight", "h w"),
                *rows.FEED_FORWARD,
            ),
        ),
    ),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)

_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def _types(values: Values, count: int) -> list[str]:
    every = next((values[key] for key in _PATTERN if values.get(key)), 4)
    return [LOCAL if (layer + 1) % every else GLOBAL for layer in range(count)]


def _read_layers(values: Values) -> dict[str, Any]:
    kinds = read_types(_types)(values, values["num_hidden_layers"])
    window = Window(checked("sliding_window", values.get("sliding_window", 4096), (int,)))
    layers = {
        LOCAL: LayerConfig((Causal(), window), read_rope(values, interleaved=True)),
        GLOBAL: LayerConfig(rope=None),
    }
    return {"layers": tuple(layers[kind] for kind in shortest_period(kinds))}


def _write_layers(config: TransformerConfig) -> dict[str, Any]:
    layers = layers_in_order(config)
    ropes = [layer.rope for layer in layers if layer.rope is not None] or [Rope()]
    windows = [one.size for layer in layers for one in layer.mask if isinstance(one, Window)]
    written = {"layer_types": layer_types(config), "sliding_window": (windows or [4096])[0]}
    return written | write_rope(ropes[0])


COHERE2 = dataclasses.replace(
    COHERE,
    name="cohere2",
    architectures=("Cohere2ForCausalLM",),
    model_types=("cohere2",),
    entries=(
        *_ENTRIES,
        Linked(
            (*ROPE_KEYS, "layer_types", "sliding_window", *_PATTERN), _read_layers, _write_layers
        ),
    ),
    inert=(*rows.INERT, "cache_implementation", "layer_switch", "order_of_interleaved_layers",
           "rotary_pct", "position_embedding_type", "use_embedding_sharing",
           "use_gated_activation", "use_parallel_block", "use_parallel_embedding"),
)  # fmt: skip
