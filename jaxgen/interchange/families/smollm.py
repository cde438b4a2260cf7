"""SmolLM 3 (Hugging Face 2025): Llama's block, of which each fourth has no positions."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Biases, Field, Fixed, Linked
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import ACTIVATION, ATTENTION_BIAS, LLAMA
from jaxgen.interchange.ropes import ROPE_KEYS, read_rope, write_rope
from jaxgen.interchange.tables import Values
from jaxgen.interchange.windows import layers_in_order, shortest_period
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.positions import Rope


def read_rotated(values: Values) -> list[bool]:
    """Returns which layers have rotary positions, by `no_rope_layers` (1: it has) or its interval.

    Raises:
      InterchangeError: if there are not as many as layers.
    """
    count, every = values["num_hidden_layers"], values.get("no_rope_layer_interval") or 4
    named = values.get("no_rope_layers") or [(layer + 1) % every for layer in range(count)]
    if len(named) != count:
        raise InterchangeError(
            f"config.json has {len(named)} no_rope_layers for num_hidden_layers={count}."
        )
    return [bool(has) for has in named]


def _read_layers(values: Values) -> dict[str, Any]:
    rope = read_rope(values, base=2_000_000.0)
    layers = [LayerConfig(rope=rope if has else None) for has in read_rotated(values)]
    return {"layers": tuple(shortest_period(layers))}


def _write_layers(config: TransformerConfig) -> dict[str, Any]:
    ropes = [layer.rope for layer in layers_in_order(config)]
    first = next((rope for rope in ropes if rope is not None), Rope())
    return write_rope(first) | {"no_rope_layers": [int(rope is not None) for rope in ropes]}


SMOLLM3 = dataclasses.replace(
    LLAMA,
    name="smollm3",
    architectures=("SmolLM3ForCausalLM",),
    model_types=("smollm3",),
    entries=(
        *rows.sizes(1e-6, tie_by_default=True),
        Field("num_key_value_heads", "num_kv_heads", 4),
        Field("head_dim", "head_dim", None),
        Field("intermediate_size", "mlp_dim"),
        ACTIVATION,
        ATTENTION_BIAS,
        Biases("mlp_bias", ("feed_forward",)),
        Fixed("use_sliding_window", False),
        Linked(
            (*ROPE_KEYS, "no_rope_layers", "no_rope_layer_interval"), _read_layers, _write_layers
        ),
    ),
    inert=(*rows.INERT, "layer_types", "sliding_window"),
    written={"pad_token_id": None},
)
