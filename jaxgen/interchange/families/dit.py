"""DiT (2212.09748), as diffusers keeps it: each block has the embeddings of time and classes."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.entries import Field, Fixed, Linked
from jaxgen.interchange.families.diffusion import (
    BOTH_WAYS,
    INERT,
    OWN,
    attention_rows,
    denoiser_fields,
    feed_forward_rows,
    linear_rows,
    module_rows,
    must_be,
    patch_rows,
    read_heads,
    section,
    stack_constants,
    two_layers_rows,
    write_heads,
)
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.models.diffusion.conditioner_configs import ClassLabelsConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.dit_config import DiTConfig

_EMBEDDINGS = "transformer_blocks.{layer}.norm1.emb."
_FIRST = _EMBEDDINGS.format(layer=0)
_ACTIVATIONS = {"gelu-approximate": "gelu_tanh", "gelu": "gelu"}
_EPSILON = 1e-6


def _assemble(fields: dict[str, Any]) -> DiffusionConfig:
    return DiffusionConfig(
        denoiser=DiTConfig(**denoiser_fields(fields)),
        conditioner=ClassLabelsConfig(**section(fields, "conditioner.")),
    )


def _read_widths(values: Values) -> dict[str, Any]:
    fields = read_heads(values, 16, 72)
    width = fields["denoiser.stack.embed_dim"]
    return fields | {"denoiser.pooled_dim": width, "conditioner.embed_dim": width}


def _read_channels(values: Values) -> dict[str, Any]:
    channels = values.get("in_channels") or 4
    out = values.get("out_channels") or channels
    if out != 2 * channels:
        must_be(values, "out_channels", channels, "or twice in_channels with a learned variance")
    return {"denoiser.channels": channels, "denoiser.learned_variance": out == 2 * channels}


def _write_channels(config: Any) -> dict[str, Any]:
    own = config.denoiser
    return {"in_channels": own.channels, "out_channels": own.out_channels}


def _read_epsilon(values: Values) -> dict[str, Any]:
    found = values.get("norm_eps", 1e-5)
    return {"denoiser.feed_forward_epsilon": None if found == _EPSILON else float(found)}


def _write_epsilon(config: Any) -> dict[str, Any]:
    return {"norm_eps": config.denoiser.feed_forward_epsilon or _EPSILON}


DIT = Family(
    name="dit",
    library="diffusers",
    architectures=("DiTTransformer2DModel",),
    model_types=(),
    kind=DiffusionConfig,
    denoiser=DiTConfig,
    assemble=_assemble,
    constants={
        **stack_constants(BOTH_WAYS, has_norms=False),
        "denoiser.stack.norm_epsilon": _EPSILON,
        "denoiser.frequency_shift": 1,
    },
    entries=(
        Linked(("num_attention_heads", "attention_head_dim"), _read_widths, write_heads),
        Linked(("in_channels", "out_channels"), _read_channels, _write_channels),
        Linked(("norm_eps",), _read_epsilon, _write_epsilon),
        Field("num_layers", "denoiser.stack.num_layers", 28),
        Field("sample_size", "denoiser.size", 32),
        Field("patch_size", "denoiser.patch_size", 2),
        Field("num_embeds_ada_norm", "conditioner.classes", 1000),
        Field(
            "activation_fn", "denoiser.stack.activation", "gelu_tanh", (str,), _ACTIVATIONS
        ),
        Fixed("attention_bias", True),
        Fixed("norm_type", "ada_norm_zero"),
        Fixed("norm_elementwise_affine", False),
    ),
    inert=(*INERT, "norm_num_groups", "upcast_attention"),
    rows=(
        *patch_rows("denoiser.patches", "pos_embed.proj"),
        *two_layers_rows("denoiser.time.layers", f"{_FIRST}timestep_embedder"),
        row("conditioner.table", f"{_FIRST}class_embedder.embedding_table.weight", "v d"),
        *module_rows("denoiser.modulation", "proj_out_1"),
        *linear_rows("denoiser.out", "proj_out_2"),
    ),
    stacks=(
        StackTable(
            "denoiser.stack",
            "transformer_blocks.{layer}.",
            (
                *module_rows("modulation", "norm1.linear"),
                *attention_rows("attention", "attn1", OWN),
                *feed_forward_rows("feed_forward", "ff"),
            ),
            "denoiser.stack",
        ),
    ),
    repeated=(_EMBEDDINGS,),
)  # fmt: skip
