"""The text part of a checkpoint that also reads images or sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxgen.interchange.tables import Family, TensorRow, Values, row
from jaxgen.models.config import TransformerConfig

_TEXT_TYPES = {
    "qwen2_5_vl": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2", "qwen3_vl": "qwen3", "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}  # fmt: skip
# What files leave out, since it is the default of the text model's own class.
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "sliding_window": 4096,
    },
    "qwen3_vl_moe_text": {
        "num_experts_per_tok": 4, "num_key_value_heads": 16, "rope_theta": 500_000.0,
    },
    "llama": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    },
    "mistral": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336,
        "num_hidden_layers": 32, "num_attention_heads": 32,
    },
}  # fmt: skip
_CONSTANTS = {"qwen3_vl_moe_text": {"norm_topk_prob": True}}
"""What a text part does whatever its file says, in the keys of the text model's own family."""
_FUSED = ("qwen3_vl_moe_text",)
"""Parts that keep all experts of a layer in one tensor, where the text model's own does not."""
_GATE_UP, _DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
_WHOLE = ("clip", "siglip")
"""Of these every part is read."""
_SEEING = {
    "llava": ("llama", "clip_vision_model"),
    "gemma3": ("gemma3_text", "siglip_vision_model"),
}  # fmt: skip
"""Of these too, where text and images are read by models of these types, the last one named."""
_TIED = "tie_word_embeddings"
_OF_THE_WHOLE = (
    "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "quantization_config", "torch_dtype",
)  # fmt: skip
_RENAMES = (
    (r"^language_model\.(model|lm_head)\.", r"\1."),
    (r"^model\.(language_model|text_model)\.", "model."),
)
_OTHERS = (
    r"(model\.)?(vision_tower|vision_model|vision_encoder|visual|multi_modal_projector|"
    r"vision_language_adapter|audio_tower|connector|image_newline)(\..*)?",
)


def text_part(values: Values, text_only: bool = False) -> tuple[dict[str, Any], str | None]:
    """Returns the config.json of a checkpoint's text model, and the architecture it is part of.

    The architecture is None where the text model is all there is, or where all parts are read.

    Args:
      values: config.json.
      text_only: whether the text model is read of checkpoints whose every part could be.
    """
    text, whole = values.get("text_config"), (values.get("architectures") or [None])[0]
    if values.get("model_type") in _WHOLE or (not text_only and _is_read_whole(values)):
        return dict(values), None
    if isinstance(text, dict):
        tied = [part[_TIED] for part in (values, text) if _TIED in part]
        text = {key: values[key] for key in _OF_THE_WHOLE if key in values} | text
        if tied:  # One of both is the default of its class.
            text[_TIED] = any(tied)
    elif "vision_config" in values:  # Of the first files of Qwen 2-VL, in which text is the rest.
        text = {key: value for key, value in values.items() if key != "vision_config"}
    else:
        return dict(values), None
    kind = str(text.get("model_type"))
    text["model_type"] = _TEXT_TYPES.get(kind, kind)
    text.pop("architectures", None)
    text |= _CONSTANTS.get(kind, {})
    return DEFAULTS.get(kind, DEFAULTS.get(text["model_type"], {})) | text, whole or str(
        values.get("model_type")
    )


def _is_read_whole(values: Values) -> bool:
    """Returns whether text and images of a checkpoint are read by models that are known."""
    own = _SEEING.get(str(values.get("model_type")))
    if own is None:
        return False
    text, vision = (values.get(key) or {} for key in ("text_config", "vision_config"))
    return text.get("model_type", own[0]) == own[0] and vision.get("model_type") == own[1]


def of_a_part(
    family: Family,
    values: Values,
    config: TransformerConfig,
    read_shapes: Callable[[], Mapping[str, Sequence[int]]],
) -> Family:
    """Returns the family as its tensors are named inside a larger model, whose others are left.

    Args:
      family: the text model's own.
      values: config.json of the whole.
      config: the text model's.
      read_shapes: returns the shapes of the tensors in its files by name.
    """
    text, stacks = values.get("text_config"), family.stacks
    if isinstance(text, dict) and text.get("model_type") in _FUSED:
        fused = _fused_rows(config, read_shapes())
        stacks = tuple(
            dataclasses.replace(
                stack, rows=(*(one for one in stack.rows if not one.of_experts), *fused)
            )
            for stack in stacks
        )
    return dataclasses.replace(
        family,
        renames=(*_RENAMES, *family.renames),
        unused=(*family.unused, *_OTHERS),
        stacks=stacks,
    )


def _fused_rows(
    config: TransformerConfig, shapes: Mapping[str, Sequence[int]]
) -> tuple[TensorRow, ...]:
    """Returns the rows of experts in fused tensors.

    Published files have them as a token's vector is multiplied from the left; transformers 5 writes
    them the other way round.
    """
    assert config.moe is not None, "parts with fused experts are sparse"
    width, hidden = config.embed_dim, config.moe.mlp_dim
    turned = {_GATE_UP: [2 * hidden, width], _DOWN: [width, hidden]}
    found = {
        name: [*shapes[one]][1:] for name in turned for one in shapes if one.endswith(f".{name}")
    }
    is_turned = found == turned
    return (
        row(
            "feed_forward.gate feed_forward.up", _GATE_UP,
            "e d f", "e (part f) d" if is_turned else "e d (part f)",
        ),
        row("feed_forward.down", _DOWN, "e f d", "e d f" if is_turned else "e f d"),
    )  # fmt: skip
