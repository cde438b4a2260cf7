"""Models that read images among text: LLaVA 1.5 (2310.03744) and Gemma 3 (2503.19786)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxgen.interchange.configs import assemble
from jaxgen.interchange.entries import ACTIVATIONS, Field, Linked, checked
from jaxgen.interchange.families import clip
from jaxgen.interchange.families.gemma import GEMMA3
from jaxgen.interchange.families.llama import LLAMA
from jaxgen.interchange.parts import DEFAULTS
from jaxgen.interchange.pixels import read_media_pixels, write_pixels
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
from jaxgen.models.config import TransformerConfig
from jaxgen.models.media_config import MediaInput, Projector
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig
from jaxgen.ops.attention.grids import SamePicture
from jaxgen.ops.attention.masks import Either

_INPUT, _ENCODER, _STACK = "media.0", "media.0.encoder", "media.0.encoder.stack"
_TEXT, _TOWER, _PROJECTOR = "language_model.", "vision_tower", "multi_modal_projector"
_PREFIXES = (_STACK, _ENCODER, f"{_INPUT}.projector", _INPUT)
_RENAMES = (
    (r"^model\.(language_model)\.", r"\1.model."),
    (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
    (r"^lm_head\.", "language_model.lm_head."),
)
_LONGEST = Field("max_position_embeddings", "max_length", None)
_STRATEGIES = {"default": False, "full": True}


def _assemble(fields: dict[str, Any]) -> TransformerConfig:
    """Makes a model from fields whose first parts say what of its media they are of."""
    parts: dict[str, dict[str, Any]] = {prefix: {} for prefix in ("", *_PREFIXES)}
    for name, value in fields.items():
        prefix = next((one for one in _PREFIXES if name.startswith(f"{one}.")), "")
        parts[prefix][name.removeprefix(f"{prefix}.")] = value
    stack = assemble(parts[_STACK], StackConfig)
    read = parts[_INPUT]
    layers = read.pop("feature_layer", None)
    if layers is not None:
        read["encoder_layers"] = layers + 1 if layers < -1 else layers % (stack.num_layers + 1)
    tokens = read.pop("tokens", None)
    projector = parts[f"{_INPUT}.projector"]
    vision = VisionConfig(stack=stack, **parts[_ENCODER])
    if tokens is not None:
        projector["pool"] = _pool_of(vision, tokens)
    media = MediaInput(encoder=vision, projector=Projector(**projector), **read)
    return dataclasses.replace(assemble(parts[""]), media=(media,))


def _pool_of(vision: VisionConfig, tokens: int) -> int:
    """Returns the rows of patches that become one of so many vectors."""
    side = vision.grid[0]
    pools = (pool for pool in range(1, side + 1) if side % pool == 0)
    found = [pool for pool in pools if (side // pool) ** 2 == tokens]
    if not found:
        raise ValueError(f"mm_tokens_per_image={tokens} of {side} x {side} patches")
    return found[0]


def _read_tied(values: Values) -> dict[str, Any]:
    """Returns whether embeddings are tied, where the whole says so of its text."""
    found = values.get("tie_word_embeddings")
    return {"tie_embeddings": True} if found else {}


def _write_tied(config: TransformerConfig) -> dict[str, Any]:
    return {"tie_word_embeddings": config.tie_embeddings}


def _read_feature_layer(values: Values) -> dict[str, Any]:
    found = values.get("vision_feature_layer")
    layer = -2 if found is None else checked("vision_feature_layer", found, (int,))
    return {f"{_INPUT}.feature_layer": layer}


def _write_feature_layer(config: TransformerConfig) -> dict[str, Any]:
    if not config.media or config.media[0].layers_read is None:
        return {}
    (one,) = config.media
    return {"vision_feature_layer": (one.layers_read or 0) - one.encoder.num_layers - 1}


def _token(key: str, default: int) -> Field:
    aliases = ("image_token_id",) if key == "image_token_index" else ()
    return Field(key, f"{_INPUT}.token", default, aliases=aliases)


def _under(prefix: str, rows: tuple[TensorRow, ...]) -> tuple[TensorRow, ...]:
    return tuple(dataclasses.replace(one, theirs=prefix + one.theirs) for one in rows)


def _stacks(family: Family) -> tuple[StackTable, ...]:
    """Returns the layers of the text, as a family has them alone, and of the vision tower."""
    text = (dataclasses.replace(one, theirs=_TEXT + one.theirs) for one in family.stacks)
    return *text, clip.stack_table(_STACK, _TOWER, _STACK)


def _vectors_as(key: str) -> Callable[[TransformerConfig], dict[str, Any]]:
    """Returns what writes the vectors of a picture under a key."""
    return lambda config: {key: config.media[0].num_vectors} if config.media else {}


LLAVA = Family(
    name="llava",
    architectures=("LlavaForConditionalGeneration",),
    model_types=("llava",),
    assemble=_assemble,
    constants={
        **clip.stack_constants(_STACK, clip.BOTH_WAYS),
        f"{_ENCODER}.patch_bias": False,
        f"{_ENCODER}.class_token": True,
        f"{_ENCODER}.embedding_norm": True,
        f"{_ENCODER}.pixel_mean": clip.CLIP_MEAN,
        f"{_ENCODER}.pixel_stddev": clip.CLIP_STDDEV,
        f"{_INPUT}.projector.layers": 2,
    },
    entries=(
        Section(
            "text_config", "", (*LLAMA.entries, _LONGEST),
            DEFAULTS["llama"] | {"model_type": "llama"}, inert=LLAMA.inert,
        ),
        Section(
            "vision_config", _ENCODER, clip.VISION,
            clip.VISION_DEFAULTS | {
                "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
            },
            inert=(*clip.INERT, "vocab_size"),
        ),
        Linked(("tie_word_embeddings",), _read_tied, _write_tied),
        _token("image_token_index", 32_000),
        Field(
            "projector_hidden_act", f"{_INPUT}.projector.activation", "gelu", (str,), ACTIVATIONS
        ),
        Field("multimodal_projector_bias", f"{_INPUT}.projector.bias", True, (bool,)),
        Field(
            "vision_feature_select_strategy", f"{_INPUT}.class_token", False, (str,), _STRATEGIES
        ),
        Linked(("vision_feature_layer",), _read_feature_layer, _write_feature_layer),
        Linked(("image_seq_length",), lambda values: {}, _vectors_as("image_seq_length")),
    ),
    inert=("ignore_index", "vocab_size"),
    rows=(
        *_under(_TEXT, LLAMA.rows),
        *clip.vision_rows(_ENCODER, _TOWER),
        *clip.clip_vision_rows(_ENCODER, _TOWER),
        row(f"{_INPUT}.first", f"{_PROJECTOR}.linear_1.weight", "i d", "d i"),
        row(f"{_INPUT}.first_bias", f"{_PROJECTOR}.linear_1.bias", "d"),
        row(f"{_INPUT}.second", f"{_PROJECTOR}.linear_2.weight", "i d", "d i"),
        row(f"{_INPUT}.second_bias", f"{_PROJECTOR}.linear_2.bias", "d"),
    ),
    stacks=_stacks(LLAMA),
    renames=_RENAMES,
    unused=(
        r"language_model\.model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
        r"vision_tower\.embeddings\.position_ids",
    ),
    copies=tuple((_TEXT + copy, _TEXT + original) for copy, original in LLAMA.copies),
    token_section="text_config",
    images=ImageTable(
        read_media_pixels, write_pixels("CLIPImageProcessor", crops=True, part=_ENCODER)
    ),
)  # fmt: skip


def _layers_that_see(entry: Linked) -> Linked:
    """Returns the entry of layers in which pictures see themselves both ways."""

    def write(config: TransformerConfig) -> dict[str, Any]:
        layers = tuple(
            dataclasses.replace(
                layer,
                mask=tuple(
                    one.predicates[0] if isinstance(one, Either) else one for one in layer.mask
                ),
            )
            for layer in config.layers
        )
        return entry.write(dataclasses.replace(config, layers=layers))

    return Linked(entry.keys, entry.read, write)


def _assemble_gemma(fields: dict[str, Any]) -> TransformerConfig:
    config = _assemble(fields)
    one = config.media[0]
    own = SamePicture(one.width, one.width)
    # A window bounds pictures too.
    layers = tuple(
        dataclasses.replace(layer, mask=(Either((layer.mask[0], own)), *layer.mask[1:]))
        for layer in config.layers
    )
    return dataclasses.replace(config, layers=layers)


def _gemma_text() -> tuple[Entry, ...]:
    *others, layers = GEMMA3.entries
    assert isinstance(layers, Linked), "the last entry is of the layers"
    return (*others, _layers_that_see(layers), _LONGEST)


GEMMA3_SEEING = Family(
    name="gemma3_seeing",
    architectures=("Gemma3ForConditionalGeneration",),
    model_types=("gemma3",),
    assemble=_assemble_gemma,
    constants={
        **GEMMA3.constants,
        **clip.stack_constants(_STACK, clip.BOTH_WAYS),
        f"{_ENCODER}.patch_bias": True,
        f"{_INPUT}.projector.norm": True,
        f"{_INPUT}.projector.bias": False,
    },
    entries=(
        Section(
            "text_config", "", _gemma_text(),
            DEFAULTS["gemma3_text"] | {"model_type": "gemma3_text"}, inert=GEMMA3.inert,
        ),
        Section(
            "vision_config", _ENCODER,
            (
                *clip.VISION,
                Field(
                    "vision_use_head", "pooling", "attention", (bool,),
                    {True: "attention", False: None},
                ),
            ),
            clip.VISION_DEFAULTS | clip.SIGLIP_DEFAULTS | {
                "patch_size": 16, "model_type": "siglip_vision_model",
            },
            inert=clip.INERT,
        ),
        Linked(("tie_word_embeddings",), _read_tied, _write_tied),
        _token("image_token_index", 262_144),
        Linked(
            ("mm_tokens_per_image",),
            lambda values: {f"{_INPUT}.tokens": values.get("mm_tokens_per_image") or 256},
            _vectors_as("mm_tokens_per_image"),
        ),
    ),
    inert=("eos_token_ids",),
    rows=(
        *_under(_TEXT, GEMMA3.rows),
        *clip.vision_rows(_ENCODER, _TOWER),
        *clip.siglip_vision_rows(_ENCODER, _TOWER),
        row(f"{_INPUT}.first", f"{_PROJECTOR}.mm_input_projection_weight", "i d"),
        row(f"{_INPUT}.norm", f"{_PROJECTOR}.mm_soft_emb_norm.weight", "i"),
    ),
    stacks=_stacks(GEMMA3),
    renames=_RENAMES,
    unused=(r"vision_tower\.embeddings\.position_ids",),
    copies=tuple((_TEXT + copy, _TEXT + original) for copy, original in GEMMA3.copies),
    token_section="text_config",
    images=ImageTable(
        read_media_pixels, write_pixels("Gemma3ImageProcessor", crops=False, part=_ENCODER)
    ),
)  # fmt: skip
