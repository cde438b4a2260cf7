"""FLUX.1: blocks of two streams and then of one, as diffusers keeps it."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.entries import Field, Linked
from jaxgen.interchange.families.diffusion import (
    ADDED,
    OWN,
    attention_rows,
    denoiser_fields,
    linear_rows,
    module_rows,
    must_be,
    patch_out_rows,
    read_heads,
    stack_constants,
    stream_rows,
    two_layers_rows,
    write_heads,
)
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.mmdit_config import MMDiTConfig
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.ops.positions import Rope

_PATCH = 2
"""Rows and columns of a patch, which files have as channels."""
_PACKED = "c p q"
_GUIDANCE = 3.5
"""The scale that a distilled network is told where config.json says that it is told one."""
_SIZE = 128


def _assemble(fields: dict[str, Any]) -> DiffusionConfig:
    return DiffusionConfig(denoiser=MMDiTConfig(**denoiser_fields(fields)))


def _read_widths(values: Values) -> dict[str, Any]:
    return read_heads(values, 24, 128)


def _read_channels(values: Values) -> dict[str, Any]:
    packed = values.get("in_channels") or 64
    must_be(values, "out_channels", packed, "as many as in_channels")
    must_be(values, "patch_size", 1, "as pictures are packed")
    return {"denoiser.channels": packed // _PATCH**2, "denoiser.patch_size": _PATCH}


def _write_channels(config: Any) -> dict[str, Any]:
    packed = config.denoiser.channels * _PATCH**2
    return {"in_channels": packed, "out_channels": None, "patch_size": 1}


def _read_rope(values: Values) -> dict[str, Any]:
    time, rows, columns = (width // 2 for width in values.get("axes_dims_rope") or (16, 56, 56))
    rope = Rope(sections=(0, time, rows, columns), interleaved=True)
    return {"denoiser.stack.layers": (LayerConfig(mask=(Bidirectional(),), rope=rope),)}


def _write_rope(config: Any) -> dict[str, Any]:
    rope = config.denoiser.stack.layers[0].rope
    sections = (0, 0, 0, 0) if rope is None or rope.sections is None else rope.sections
    return {"axes_dims_rope": [2 * pairs for pairs in sections[1:]]}


def _read_guidance(values: Values) -> dict[str, Any]:
    return {"denoiser.told_guidance": _GUIDANCE if values.get("guidance_embeds") else None}


def _write_guidance(config: Any) -> dict[str, Any]:
    return {"guidance_embeds": config.denoiser.told_guidance is not None}


def _read_size(values: Values) -> dict[str, Any]:
    return {"denoiser.size": values.get("sample_size") or _SIZE}


def _write_size(config: Any) -> dict[str, Any]:
    size = config.denoiser.size
    return {} if size == _SIZE else {"sample_size": size}


FLUX = Family(
    name="flux",
    library="diffusers",
    architectures=("FluxTransformer2DModel",),
    model_types=(),
    kind=DiffusionConfig,
    denoiser=MMDiTConfig,
    assemble=_assemble,
    constants={
        **stack_constants((), has_norms=False),
        "denoiser.stack.norm_epsilon": 1e-6,
        "denoiser.stack.activation": "gelu_tanh",
        "denoiser.qk_norm": True,
    },
    entries=(
        Linked(("num_attention_heads", "attention_head_dim"), _read_widths, write_heads),
        Linked(("in_channels", "out_channels", "patch_size"), _read_channels, _write_channels),
        Linked(("axes_dims_rope",), _read_rope, _write_rope),
        Linked(("guidance_embeds",), _read_guidance, _write_guidance),
        Linked(("sample_size",), _read_size, _write_size),
        Field("num_layers", "denoiser.stack.num_layers", 19),
        Field("num_single_layers", "denoiser.single_layers", 38),
        Field("joint_attention_dim", "denoiser.context_dim", 4096),
        Field("pooled_projection_dim", "denoiser.pooled_dim", 768),
    ),
    rows=(
        row("denoiser.patches.weight", "x_embedder.weight", "p q c d", f"d ({_PACKED})"),
        row("denoiser.patches.bias", "x_embedder.bias", "d"),
        *two_layers_rows("denoiser.time.layers", "time_text_embed.timestep_embedder"),
        *two_layers_rows("denoiser.guidance.layers", "time_text_embed.guidance_embedder"),
        *two_layers_rows("denoiser.pooled", "time_text_embed.text_embedder"),
        *module_rows("denoiser.context", "context_embedder"),
        *module_rows("denoiser.modulation", "norm_out.linear"),
        *patch_out_rows("proj_out", _PACKED),
    ),
    stacks=(
        StackTable(
            "denoiser.stack",
            "transformer_blocks.{layer}.",
            (*stream_rows("picture", OWN, ""), *stream_rows("text", ADDED, "_context")),
            "denoiser",
        ),
        StackTable(
            "denoiser.singles",
            "single_transformer_blocks.{layer}.",
            (
                *module_rows("modulation", "norm.linear"),
                *attention_rows("attention", "attn", OWN),
                row("attention.query_norm.scale", "attn.norm_q.weight", "w"),
                row("attention.key_norm.scale", "attn.norm_k.weight", "w"),
                *linear_rows("up", "proj_mlp"),
                row("out down", "proj_out.weight", "f d", "d (part f)"),
                row("out_bias", "proj_out.bias", "d"),
            ),
            "denoiser.singles",
        ),
    ),
)
