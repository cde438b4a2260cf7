"""CLIP's text tower alone, without its projection and with it."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.configs import assemble
from jaxgen.interchange.entries import Field
from jaxgen.interchange.families.clip import (
    CAUSAL,
    INERT,
    UNUSED,
    stack_constants,
    stack_table,
    text_entries,
    text_rows,
)
from jaxgen.interchange.tables import Family, row
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig

# As transformers 5 names the tensors of the tower.
_RENAMES = ((r"^(embeddings|encoder|final_layer_norm)\.", r"text_model.\1."),)


def _constants(part: str) -> dict[str, Any]:
    """Returns what all towers have, of a part of a configuration that ends in a dot, or of all."""
    found = stack_constants("text", CAUSAL) | {"text.embedding_positions": "learned"}
    return {part + name.removeprefix("text."): value for name, value in found.items()}


def _assemble(fields: dict[str, Any]) -> CaptionEncoderConfig:
    """Makes an encoder, whose vector is projected, that reads padding like text."""
    own = {
        name.removeprefix("model."): value
        for name, value in fields.items()
        if name.startswith("model.")
    }
    return CaptionEncoderConfig(
        assemble(own), pooled=True, projection=fields["projection"], masks_padding=False
    )


CLIP_TEXT = Family(
    name="clip_text",
    architectures=("CLIPTextModel",),
    model_types=("clip_text_model",),
    constants=_constants(""),
    entries=text_entries(),
    inert=INERT,
    rows=text_rows(""),
    stacks=(stack_table("stack", "text_model", ""),),
    renames=_RENAMES,
    unused=UNUSED,
)
"""The text tower alone, without its projection, as Stable Diffusion 1 and 2 have it."""

CLIP_TEXT_PROJECTED = Family(
    name="clip_text_projected",
    architectures=("CLIPTextModelWithProjection",),
    model_types=("clip_text_model",),
    kind=CaptionEncoderConfig,
    assemble=_assemble,
    constants=_constants("model."),
    entries=(*text_entries("model."), Field("projection_dim", "projection", 512)),
    inert=tuple(key for key in INERT if key != "projection_dim"),
    rows=(
        *text_rows("model."),
        row("projection", "text_projection.weight", "d e", "e d"),
    ),
    stacks=(stack_table("model.stack", "text_model", "model"),),
    renames=_RENAMES,
    unused=UNUSED,
)
"""The text tower with its projection, as Stable Diffusion 3 has two."""
