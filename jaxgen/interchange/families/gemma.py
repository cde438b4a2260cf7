"""Gemma (2403.08295), Gemma 2 (2408.00118) and the text models of Gemma 3 (2503.19786)."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.interchange.configs import attention_scale
from jaxgen.interchange.entries import Biases, Field, Fixed, Linked, activation, among
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Entry, Family, StackTable, Values, row
from jaxgen.interchange.windows import GLOBAL, LOCAL, read_types, rotary_layers, windowed_layers
from jaxgen.models.config import TransformerConfig


def _read_scale(values: Values) -> dict[str, Any]:
    return {"attention_scale": (values.get("query_pre_attn_scalar") or 256) ** -0.5}


def _write_scale(config: TransformerConfig) -> dict[str, Any]:
    return {"query_pre_attn_scalar": round(attention_scale(config) ** -2)}


def _entries(logit_cap: float | None, attention_cap: float | None) -> tuple[Entry, ...]:
    return (
        *rows.sizes(1e-6, tie_by_default=True),
        *rows.heads(256),
        Field("intermediate_size", "mlp_dim"),
        activation("hidden_activation", "gelu_tanh"),
        Biases("attention_bias", ("qkv", "attention_out")),
        Linked(("query_pre_attn_scalar",), _read_scale, _write_scale),
        Cap("final_logit_softcapping", "logit_soft_cap", logit_cap),
        Cap("attn_logit_softcapping", "attention_soft_cap", attention_cap),
        Fixed("use_bidirectional_attention", False),
    )


@dataclasses.dataclass(frozen=True)
class Cap:
    """A soft cap: null is none, but a missing key is the family's own."""

    key: str
    field: str
    default: float | None

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def read(self, values: Values) -> dict[str, Any]:
        return {self.field: values.get(self.key, self.default)}

    def write(self, config: TransformerConfig) -> dict[str, Any]:
        return {self.key: getattr(config, self.field)}


def _write_window(
    config: TransformerConfig, kinds: list[str], window: int | None
) -> dict[str, Any]:
    del config
    return {"layer_types": kinds, "sliding_window": window}


def _alternating(values: Values, count: int) -> list[str]:
    del values
    return [GLOBAL if layer % 2 else LOCAL for layer in range(count)]


def _every_sixth(values: Values, count: int) -> list[str]:
    pattern = values.get("sliding_window_pattern") or values.get("_sliding_window_pattern") or 6
    return [LOCAL if (layer + 1) % pattern else GLOBAL for layer in range(count)]


_ROWS = (
    row("attention_norm.scale", "input_layernorm.weight", "d"),
    row("attention_post_norm.scale", "post_attention_layernorm.weight", "d"),
    row("feed_forward_norm.scale", "pre_feedforward_layernorm.weight", "d"),
    row("feed_forward_post_norm.scale", "post_feedforward_layernorm.weight", "d"),
    *rows.ATTENTION,
    *rows.FEED_FORWARD,
)


def _read_activation(values: Values) -> dict[str, Any]:
    # The first files say "gelu", and mean its approximation.
    for key in ("hidden_act", "hidden_activation"):
        if values.get(key) is not None:
            among(key, values[key], ("gelu_pytorch_tanh", "gelu", "gelu_new"))
    return {"activation": "gelu_tanh"}


GEMMA = Family(
    name="gemma",
    architectures=("GemmaForCausalLM",),
    model_types=("gemma",),
    constants={"norm_unit_offset": True, "scale_embeddings": True},
    entries=(
        *rows.sizes(1e-6, tie_by_default=True),
        Field("num_key_value_heads", "num_kv_heads", 16),
        Field("head_dim", "head_dim", 256),
        Field("intermediate_size", "mlp_dim"),
        Linked(
            ("hidden_act", "hidden_activation"),
            _read_activation,
            lambda config: {"hidden_act": "gelu_pytorch_tanh"},
        ),
        Biases("attention_bias", ("qkv", "attention_out")),
        rotary_layers(),
        Fixed("use_bidirectional_attention", False),
    ),
    inert=rows.INERT,
    rows=rows.OUTSIDE,
    stacks=(StackTable("stack", rows.LAYER, (*rows.NORMS, *rows.ATTENTION, *rows.FEED_FORWARD)),),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)

GEMMA2 = Family(
    name="gemma2",
    architectures=("Gemma2ForCausalLM",),
    model_types=("gemma2",),
    constants={
        "norm_unit_offset": True,
        "norm_placement": "both",
        "scale_embeddings": True,
    },
    entries=(
        *_entries(30.0, 50.0),
        windowed_layers(("layer_types",), read_types(_alternating), _write_window),
    ),
    # Published files have hidden_act too, but models use hidden_activation.
    inert=(*rows.INERT, "hidden_act", "cache_implementation"),
    rows=rows.OUTSIDE,
    stacks=(StackTable("stack", rows.LAYER, _ROWS),),
    unused=rows.UNUSED,
    copies=rows.COPIES,
)

GEMMA3 = dataclasses.replace(
    GEMMA2,
    name="gemma3",
    architectures=("Gemma3ForCausalLM",),
    model_types=("gemma3_text",),
    entries=(
        *_entries(None, None),
        windowed_layers(
            ("layer_types", "sliding_window_pattern", "_sliding_window_pattern"),
            read_types(_every_sixth),
            _write_window,
            qk_norm="head",
            local_base=10_000.0,
            local_base_key="rope_local_base_freq",
            base=1_000_000.0,
        ),
    ),
    stacks=(StackTable("stack", rows.LAYER, (*_ROWS, *rows.HEAD_NORMS)),),
)
