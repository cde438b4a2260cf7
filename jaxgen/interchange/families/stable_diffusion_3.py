"""Stable Diffusion 3 and 3.5 (2403.03206): a transformer of two streams, as diffusers keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxgen.errors import InterchangeError
from jaxgen.interchange.entries import Field, Linked
from jaxgen.interchange.families.diffusion import (
    ADDED,
    BOTH_WAYS,
    OWN,
    attention_rows,
    denoiser_fields,
    module_rows,
    must_be,
    patch_out_rows,
    patch_rows,
    read_heads,
    stack_constants,
    stream_rows,
    two_layers_rows,
    write_heads,
)
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.mmdit import table_of
from jaxgen.models.diffusion.mmdit_config import MMDiTConfig

_TABLE = "pos_embed.pos_embed"


def _assemble(fields: dict[str, Any]) -> DiffusionConfig:
    return DiffusionConfig(denoiser=MMDiTConfig(**denoiser_fields(fields)))


def _read_widths(values: Values) -> dict[str, Any]:
    fields = read_heads(values, 18, 64)
    width = fields["denoiser.stack.embed_dim"]
    must_be(values, "caption_projection_dim", width, "as wide as all heads together")
    return fields


def _write_widths(config: Any) -> dict[str, Any]:
    return write_heads(config) | {"caption_projection_dim": config.denoiser.stack.embed_dim}


def _read_channels(values: Values) -> dict[str, Any]:
    channels = values.get("in_channels") or 16
    must_be(values, "out_channels", channels, "as many as in_channels")
    return {"denoiser.channels": channels}


def _write_channels(config: Any) -> dict[str, Any]:
    return {"in_channels": config.denoiser.channels, "out_channels": config.denoiser.channels}


def _read_dual(values: Values) -> dict[str, Any]:
    found = tuple(values.get("dual_attention_layers") or ())
    if sorted(found) != list(range(len(found))):
        raise InterchangeError(
            f"config.json says dual_attention_layers={list(found)}; jaxgen supports the first "
            "layers, in any number."
        )
    return {"denoiser.dual_layers": len(found)}


def _write_dual(config: Any) -> dict[str, Any]:
    return {"dual_attention_layers": list(range(config.denoiser.dual_layers))}


def _read_table(values: Values) -> dict[str, Any]:
    return {"denoiser.table_side": values.get("pos_embed_max_size", 96)}


def _write_table(config: Any) -> dict[str, Any]:
    return {"pos_embed_max_size": config.denoiser.table_side}


def _table(config: Any) -> np.ndarray | None:
    own = config.denoiser
    return None if own.table_side is None else table_of(own)[None]


STABLE_DIFFUSION_3 = Family(
    name="stable_diffusion_3",
    library="diffusers",
    architectures=("SD3Transformer2DModel",),
    model_types=(),
    kind=DiffusionConfig,
    denoiser=MMDiTConfig,
    assemble=_assemble,
    constants={
        **stack_constants(BOTH_WAYS, has_norms=False),
        "denoiser.stack.norm_epsilon": 1e-6,
        "denoiser.stack.activation": "gelu_tanh",
    },
    entries=(
        Linked(
            ("num_attention_heads", "attention_head_dim", "caption_projection_dim"),
            _read_widths,
            _write_widths,
        ),
        Linked(("in_channels", "out_channels"), _read_channels, _write_channels),
        Linked(("dual_attention_layers",), _read_dual, _write_dual),
        Linked(("pos_embed_max_size",), _read_table, _write_table),
        Field("num_layers", "denoiser.stack.num_layers", 18),
        Field("sample_size", "denoiser.size", 128),
        Field("patch_size", "denoiser.patch_size", 2),
        Field("joint_attention_dim", "denoiser.context_dim", 4096),
        Field("pooled_projection_dim", "denoiser.pooled_dim", 2048),
        Field(
            "qk_norm", "denoiser.qk_norm", False, (str,), {"rms_norm": True, None: False}
        ),
    ),
    rows=(
        *patch_rows("denoiser.patches", "pos_embed.proj"),
        *two_layers_rows("denoiser.time.layers", "time_text_embed.timestep_embedder"),
        *two_layers_rows("denoiser.pooled", "time_text_embed.text_embedder"),
        *module_rows("denoiser.context", "context_embedder"),
        *module_rows("denoiser.modulation", "norm_out.linear"),
        *patch_out_rows("proj_out", "p q c"),
    ),
    stacks=(
        StackTable(
            "denoiser.stack",
            "transformer_blocks.{layer}.",
            (
                *stream_rows("picture", OWN, ""),
                *stream_rows("text", ADDED, "_context"),
                *attention_rows("alone", "attn2", OWN),
                row("alone.query_norm.scale", "attn2.norm_q.weight", "w"),
                row("alone.key_norm.scale", "attn2.norm_k.weight", "w"),
            ),
            "denoiser",
        ),
    ),
    computed=((_TABLE, _table),),
)  # fmt: skip
