"""unCLIP's diffusion prior (2204.06125), as diffusers keeps it."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.entries import Field, Fixed, Linked
from jaxgen.interchange.families.clip import norm_rows
from jaxgen.interchange.families.diffusion import (
    INERT,
    OWN,
    attention_rows,
    denoiser_fields,
    feed_forward_rows,
    linear_rows,
    module_rows,
    must_be,
    read_heads,
    stack_constants,
    two_layers_rows,
    write_heads,
)
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.prior_config import AFTER_TEXT, PriorConfig


def _assemble(fields: dict[str, Any]) -> DiffusionConfig:
    return DiffusionConfig(denoiser=PriorConfig(**denoiser_fields(fields)))


def _read_widths(values: Values) -> dict[str, Any]:
    fields = read_heads(values, 32, 64)
    width, channels = fields["denoiser.stack.embed_dim"], values.get("embedding_dim") or 768
    must_be(values, "time_embed_dim", width, "as wide as all heads together")
    must_be(values, "clip_embed_dim", channels, "the same as embedding_dim")
    pooled = values.get("embedding_proj_dim") or channels
    return fields | {
        "denoiser.channels": channels,
        "denoiser.context_dim": channels,
        "denoiser.pooled_dim": pooled,
    }


def _write_widths(config: Any) -> dict[str, Any]:
    own = config.denoiser
    return write_heads(config) | {
        "embedding_dim": own.channels,
        "embedding_proj_dim": own.pooled_dim,
        "time_embed_dim": None,
        "clip_embed_dim": None,
    }


UNCLIP_PRIOR = Family(
    name="unclip_prior",
    library="diffusers",
    architectures=("PriorTransformer",),
    model_types=(),
    kind=DiffusionConfig,
    denoiser=PriorConfig,
    assemble=_assemble,
    constants={
        **stack_constants((LayerConfig(rope=None),), has_norms=True),
        "denoiser.stack.norm_epsilon": 1e-5,
        "denoiser.stack.activation": "gelu",
        "denoiser.statistics": True,
    },
    entries=(
        Linked(
            (
                "num_attention_heads", "attention_head_dim", "embedding_dim",
                "embedding_proj_dim", "time_embed_dim", "clip_embed_dim",
            ),
            _read_widths,
            _write_widths,
        ),
        Field("num_layers", "denoiser.stack.num_layers", 20),
        Field("num_embeddings", "denoiser.max_length", 77),
        Fixed("additional_embeddings", AFTER_TEXT),
        Fixed("time_embed_act_fn", "silu"),
        Fixed("norm_in_type", None),
        Fixed("embedding_proj_norm_type", None),
        Fixed("encoder_hid_proj_type", "linear"),
        Fixed("added_emb_type", "prd"),
    ),
    inert=INERT,
    rows=(
        row("denoiser.positions", "positional_embedding", "t d", "() t d"),
        row("denoiser.token", "prd_embedding", "d", "() () d"),
        row("denoiser.mean", "clip_mean", "c", "() c"),
        row("denoiser.stddev", "clip_std", "c", "() c"),
        *two_layers_rows("denoiser.time.layers", "time_embedding"),
        *module_rows("denoiser.vector", "proj_in"),
        *module_rows("denoiser.pooled", "embedding_proj"),
        *module_rows("denoiser.context", "encoder_hidden_states_proj"),
        *norm_rows("denoiser.stack.final_norm", "norm_out"),
        *linear_rows("denoiser.out", "proj_to_clip_embeddings"),
    ),
    stacks=(
        StackTable(
            "denoiser.stack",
            "transformer_blocks.{layer}.",
            (
                *norm_rows("attention_norm", "norm1"),
                *norm_rows("feed_forward_norm", "norm3"),
                *attention_rows("attention", "attn1", OWN),
                *feed_forward_rows("feed_forward", "ff"),
            ),
            "denoiser.stack",
        ),
    ),
)  # fmt: skip
