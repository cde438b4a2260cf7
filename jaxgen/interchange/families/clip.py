"""CLIP (2103.00020) and SigLIP (2303.15343): a text tower and a vision tower."""

from __future__ import annotations

import math
from typing import Any

from jaxgen.interchange.configs import assemble
from jaxgen.interchange.entries import ACTIVATIONS, Field, Fixed, Linked, checked
from jaxgen.interchange.pixels import read_pixels, write_pixels
from jaxgen.interchange.sections import Section
from jaxgen.interchange.tables import (
    Entry,
    Family,
    ImageTable,
    StackTable,
    TensorRow,
    Values,
    row,
)
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.ops.attention.masks import Bidirectional

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STDDEV = (0.26862954, 0.26130258, 0.27577711)
CAUSAL = (LayerConfig(rope=None),)
BOTH_WAYS = (LayerConfig(mask=(Bidirectional(),), rope=None),)
_LOG_SCALE = "logit_scale_init_value"
INERT = ("attention_dropout", "dropout", "initializer_factor", "projection_dim")


def stack_constants(part: str, layers: tuple[LayerConfig, ...]) -> dict[str, Any]:
    """Returns what the stacks of all towers share."""
    groups = ("qkv", "attention_out", "feed_forward", "norm")
    constants = {"layers": layers, "norm": "layer", "gated": False}
    constants |= {f"biases.{group}": True for group in groups}
    return {f"{part}.{name}": value for name, value in constants.items()}


def _sizes(prefix: str = "") -> tuple[Entry, ...]:
    """Returns the entries of a tower's stack."""
    return (
        Field("hidden_size", f"{prefix}embed_dim"),
        Field("num_hidden_layers", f"{prefix}num_layers"),
        Field("num_attention_heads", f"{prefix}num_heads"),
        Field("intermediate_size", f"{prefix}mlp_dim"),
        Field("layer_norm_eps", f"{prefix}norm_epsilon", kinds=(float,)),
        Field("hidden_act", f"{prefix}activation", kinds=(str,), values=ACTIVATIONS),
    )


def text_entries(prefix: str = "") -> tuple[Entry, ...]:
    """Returns the entries of a text tower."""
    return (
        *_sizes(prefix),
        Field("vocab_size", f"{prefix}vocab_size"),
        Field("max_position_embeddings", f"{prefix}max_length"),
    )


def text_rows(ours: str) -> tuple[TensorRow, ...]:
    """Returns the rows outside the layers of a text tower."""
    tables = "text_model.embeddings"
    return (
        row(f"{ours}embedding.table", f"{tables}.token_embedding.weight", "v d"),
        row(f"{ours}embedding.positions", f"{tables}.position_embedding.weight", "t d"),
        *norm_rows(f"{ours}stack.final_norm", "text_model.final_layer_norm"),
    )


_TEXT, _WIDTH = text_entries(), (("projection_dim", "embed_dim"),)
VISION = (
    *_sizes("stack."),
    Field("image_size", "image_size"),
    Field("patch_size", "patch_size"),
    Field("num_channels", "channels"),
)
_TEXT_DEFAULTS = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "vocab_size": 49_408,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "model_type": "clip_text_model",
}  # fmt: skip
VISION_DEFAULTS = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_channels": 3, "image_size": 224, "patch_size": 32,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
}  # fmt: skip
SIGLIP_DEFAULTS = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
_SIGLIP_TEXT = Section(
    "text_config",
    "text",
    _TEXT,
    _TEXT_DEFAULTS | SIGLIP_DEFAULTS | {
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
        "max_position_embeddings": 64, "vocab_size": 32_000, "model_type": "siglip_text_model",
    },
    repeats=(("projection_size", "embed_dim"),),
    inert=INERT,
)  # fmt: skip


def _read_projection(values: Values) -> dict[str, Any]:
    """Returns the width of SigLIP's space: the text tower's, unless its section says another."""
    text = _SIGLIP_TEXT.values_in(values)
    size = text.get("projection_size") or text["hidden_size"]
    return {"embed_dim": checked("projection_size", size, (int,))}


def _read_scale(values: Values) -> dict[str, Any]:
    """Returns the scale that training began with, of which a file has the logarithm."""
    found = values.get(_LOG_SCALE)
    return {"initial_scale": math.exp(2.6592 if found is None else found)}


def stack_table(ours: str, theirs: str, config: str) -> StackTable:
    """Returns the layers of a tower."""
    return StackTable(ours, f"{theirs}.encoder.layers.{{layer}}.", LAYER, config)


def norm_rows(ours: str, theirs: str) -> tuple[TensorRow, TensorRow]:
    """Returns the rows of a norm."""
    return row(f"{ours}.scale", f"{theirs}.weight", "d"), row(f"{ours}.bias", f"{theirs}.bias", "d")


_FEED_FORWARD = (
    ("feed_forward.up", "mlp.fc1.weight", "d f", "f d"),
    ("feed_forward.up_bias", "mlp.fc1.bias", "f", "f"),
    ("feed_forward.down", "mlp.fc2.weight", "f d", "d f"),
    ("feed_forward.down_bias", "mlp.fc2.bias", "d", "d"),
)
LAYER = (
    row("attention.query", "self_attn.q_proj.weight", "d h w", "(h w) d"),
    row("attention.query_bias", "self_attn.q_proj.bias", "h w", "(h w)"),
    row("attention.key", "self_attn.k_proj.weight", "d h w", "(h w) d"),
    row("attention.key_bias", "self_attn.k_proj.bias", "h w", "(h w)"),
    row("attention.value", "self_attn.v_proj.weight", "d h w", "(h w) d"),
    row("attention.value_bias", "self_attn.v_proj.bias", "h w", "(h w)"),
    row("attention.out", "self_attn.out_proj.weight", "h w d", "d (h w)"),
    row("attention.out_bias", "self_attn.out_proj.bias", "d"),
    *norm_rows("attention_norm", "layer_norm1"),
    *norm_rows("feed_forward_norm", "layer_norm2"),
    *(row(*one) for one in _FEED_FORWARD),
)


def vision_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows outside the layers that the vision towers of both families have."""
    embeddings = f"{theirs}.embeddings"
    return (
        row(f"{ours}.patches", f"{embeddings}.patch_embedding.weight", "p q c d", "d c p q"),
        row(f"{ours}.positions", f"{embeddings}.position_embedding.weight", "t d"),
        *norm_rows(f"{ours}.stack.final_norm", f"{theirs}.post_layernorm"),
    )


def clip_vision_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows that CLIP's vision tower has besides."""
    return (
        row(f"{ours}.class_token", f"{theirs}.embeddings.class_embedding", "d"),
        *norm_rows(f"{ours}.embedding_norm", f"{theirs}.pre_layrnorm"),
    )


def siglip_vision_rows(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    """Returns the rows that SigLIP's vision tower has besides, with its pool."""
    pool, head = f"{ours}.pool", f"{theirs}.head"
    weights = " ".join(f"{pool}.attention.{name}" for name in ("query", "key", "value"))
    biases = " ".join(f"{pool}.attention.{name}_bias" for name in ("query", "key", "value"))
    return (
        row(f"{ours}.patch_bias", f"{theirs}.embeddings.patch_embedding.bias", "d"),
        row(f"{pool}.query", f"{head}.probe", "d", "() () d"),
        row(weights, f"{head}.attention.in_proj_weight", "d h w", "(part h w) d"),
        row(biases, f"{head}.attention.in_proj_bias", "h w", "(part h w)"),
        row(f"{pool}.attention.out", f"{head}.attention.out_proj.weight", "h w d", "d (h w)"),
        row(f"{pool}.attention.out_bias", f"{head}.attention.out_proj.bias", "d"),
        *norm_rows(f"{pool}.norm", f"{head}.layernorm"),
        *(row(f"{pool}.{mine}", f"{head}.{other}", *axes) for mine, other, *axes in _FEED_FORWARD),
    )


_TOWERS = (
    *text_rows("text."),
    *vision_rows("vision", "vision_model"),
)
_STACKS = (
    stack_table("text.stack", "text_model", "text"),
    stack_table("vision.stack", "vision_model", "vision.stack"),
)
UNUSED = (r"(text|vision)_model\.embeddings\.position_ids",)


def _assemble(fields: dict[str, Any]) -> DualEncoderConfig:
    """Makes a contrastive pair from fields whose first part says which tower they are of."""
    text, vision, stack = (
        {name.removeprefix(part): value for name, value in fields.items() if name.startswith(part)}
        for part in ("text.", "vision.", "vision.stack.")
    )
    vision = {name: value for name, value in vision.items() if not name.startswith("stack.")}
    whole = {name: value for name, value in fields.items() if "." not in name}
    return DualEncoderConfig(
        text=assemble(text),
        vision=VisionConfig(stack=assemble(stack, StackConfig), **vision),
        **whole,
    )


CLIP = Family(
    name="clip",
    architectures=("CLIPModel",),
    model_types=("clip",),
    kind=DualEncoderConfig,
    assemble=_assemble,
    constants={
        **stack_constants("text", CAUSAL),
        **stack_constants("vision.stack", BOTH_WAYS),
        "text.embedding_positions": "learned",
        "vision.patch_bias": False,
        "vision.class_token": True,
        "vision.embedding_norm": True,
        "vision.pooling": "class_token",
        "vision.pixel_mean": CLIP_MEAN,
        "vision.pixel_stddev": CLIP_STDDEV,
        "text_pooling": "end_token",
        "text_projection": "linear",
        "image_projection": "linear",
        "initial_bias": None,
    },
    entries=(
        Section("text_config", "text", _TEXT, _TEXT_DEFAULTS, _WIDTH, INERT),
        Section("vision_config", "vision", VISION, VISION_DEFAULTS, _WIDTH, INERT),
        Field("projection_dim", "embed_dim", 512),
        Linked(
            (_LOG_SCALE,),
            _read_scale,
            lambda config: {_LOG_SCALE: math.log(config.initial_scale)},
        ),
    ),
    inert=("initializer_factor",),
    rows=(
        *_TOWERS,
        *clip_vision_rows("vision", "vision_model"),
        row("text_projection.weight", "text_projection.weight", "d e", "e d"),
        row("image_projection.weight", "visual_projection.weight", "d e", "e d"),
        row("log_scale", "logit_scale", ""),
    ),
    stacks=_STACKS,
    unused=UNUSED,
    token_section="text_config",
    images=ImageTable(read_pixels, write_pixels("CLIPImageProcessor", crops=True)),
)  # fmt: skip

SIGLIP = Family(
    name="siglip",
    architectures=("SiglipModel",),
    model_types=("siglip",),
    kind=DualEncoderConfig,
    assemble=_assemble,
    constants={
        **stack_constants("text", BOTH_WAYS),
        **stack_constants("vision.stack", BOTH_WAYS),
        "text.embedding_positions": "learned",
        "vision.patch_bias": True,
        "vision.pooling": "attention",
        "text_pooling": "last_token",
        "text_projection": "affine",
        "image_projection": None,
        "initial_scale": 10.0,
        "max_scale": None,
        "initial_bias": -10.0,
    },
    entries=(
        _SIGLIP_TEXT,
        Section(
            "vision_config",
            "vision",
            (*VISION, Fixed("vision_use_head", True)),
            VISION_DEFAULTS
            | SIGLIP_DEFAULTS
            | {"patch_size": 16, "model_type": "siglip_vision_model"},
            inert=INERT,
        ),
        Linked(("text_config",), _read_projection, lambda config: {}),
    ),
    inert=("initializer_factor",),
    rows=(
        *_TOWERS,
        *siglip_vision_rows("vision", "vision_model"),
        row("text_projection.weight", "text_model.head.weight", "d e", "e d"),
        row("text_projection.bias", "text_model.head.bias", "e"),
        row("log_scale", "logit_scale", "", "()"),
        row("bias", "logit_bias", "", "()"),
    ),
    stacks=_STACKS,
    unused=UNUSED,
    token_section="text_config",
    images=ImageTable(read_pixels, write_pixels("SiglipImageProcessor", crops=False)),
)
