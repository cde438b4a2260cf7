"""Whisper (2212.04356): a decoder of text that attends to an encoder of log-mel frames."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.configs import assemble
from jaxgen.interchange.entries import ACTIVATIONS, Field, Fixed, Linked, checked
from jaxgen.interchange.families.clip import BOTH_WAYS, norm_rows
from jaxgen.interchange.tables import Family, StackTable, TensorRow, Values, row
from jaxgen.models.audio_config import AudioConfig
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.stack_config import StackConfig

_SHARED = {
    "norm": "layer", "norm_epsilon": 1e-5, "gated": False, "biases.qv": True,
    "biases.attention_out": True, "biases.feed_forward": True, "biases.norm": True,
}  # fmt: skip
_OF_BOTH = ("embed_dim", "activation")
"""Fields that both stacks have from one key."""


def _assemble(fields: dict[str, Any]) -> TransformerConfig:
    """Makes a model from fields of which those of the encoder begin with "sound"."""
    stack = {name: fields[name] for name in _OF_BOTH}
    sound, text = {}, {}
    for name, value in fields.items():
        if name.startswith("sound.stack."):
            stack[name.removeprefix("sound.stack.")] = value
        elif name.startswith("sound."):
            sound[name.removeprefix("sound.")] = value
        else:
            text[name] = value
    made = AudioConfig(stack=assemble(stack, StackConfig), **sound)
    return assemble(text | {"sound": made})


def _read_frames(values: Values) -> dict[str, Any]:
    found = values.get("max_source_positions")
    places = 1500 if found is None else checked("max_source_positions", found, (int,))
    return {"sound.num_frames": 2 * places}


def _write_frames(config: TransformerConfig) -> dict[str, Any]:
    return {"max_source_positions": config.sound.num_tokens} if config.sound else {}


def _attention(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    return (
        row(f"{ours}.query", f"{theirs}.q_proj.weight", "d h w", "(h w) d"),
        row(f"{ours}.query_bias", f"{theirs}.q_proj.bias", "h w", "(h w)"),
        row(f"{ours}.key", f"{theirs}.k_proj.weight", "d h w", "(h w) d"),
        row(f"{ours}.value", f"{theirs}.v_proj.weight", "d h w", "(h w) d"),
        row(f"{ours}.value_bias", f"{theirs}.v_proj.bias", "h w", "(h w)"),
        row(f"{ours}.out", f"{theirs}.out_proj.weight", "h w d", "d (h w)"),
        row(f"{ours}.out_bias", f"{theirs}.out_proj.bias", "d"),
    )


_LAYER = (
    *_attention("attention", "self_attn"),
    *norm_rows("attention_norm", "self_attn_layer_norm"),
    *_attention("cross_attention", "encoder_attn"),
    *norm_rows("cross_norm", "encoder_attn_layer_norm"),
    *norm_rows("feed_forward_norm", "final_layer_norm"),
    row("feed_forward.up", "fc1.weight", "d f", "f d"),
    row("feed_forward.up_bias", "fc1.bias", "f"),
    row("feed_forward.down", "fc2.weight", "f d", "d f"),
    row("feed_forward.down_bias", "fc2.bias", "d"),
)

WHISPER = Family(
    name="whisper",
    architectures=("WhisperForConditionalGeneration",),
    model_types=("whisper",),
    assemble=_assemble,
    constants={
        **_SHARED,
        **{f"sound.stack.{name}": value for name, value in _SHARED.items()},
        "layers": (LayerConfig(rope=None),),
        "sound.stack.layers": BOTH_WAYS,
        "embedding_positions": "learned",
        "tie_embeddings": True,
    },
    entries=(
        Field("vocab_size", "vocab_size"),
        Field("d_model", "embed_dim"),
        Field("decoder_layers", "num_layers"),
        Field("decoder_attention_heads", "num_heads"),
        Field("decoder_ffn_dim", "mlp_dim"),
        Field("max_target_positions", "max_length", 448),
        Field("activation_function", "activation", "gelu", (str,), ACTIVATIONS),
        Field("encoder_layers", "sound.stack.num_layers"),
        Field("encoder_attention_heads", "sound.stack.num_heads"),
        Field("encoder_ffn_dim", "sound.stack.mlp_dim"),
        Field("num_mel_bins", "sound.bands", 80),
        Linked(("max_source_positions",), _read_frames, _write_frames),
        Fixed("scale_embedding", False),
        Fixed("tie_word_embeddings", True),
        Fixed("use_weighted_layer_sum", False),
    ),
    inert=(
        "activation_dropout", "alignment_heads", "apply_spec_augment", "attention_dropout",
        "classifier_proj_size", "decoder_layerdrop", "dropout", "encoder_layerdrop",
        "forced_decoder_ids", "init_std", "is_encoder_decoder", "mask_feature_length",
        "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks",
        "mask_time_prob", "median_filter_width", "num_hidden_layers",
    ),
    written={"is_encoder_decoder": True},
    rows=(
        row("embedding.table", "model.decoder.embed_tokens.weight", "v d"),
        row("embedding.positions", "model.decoder.embed_positions.weight", "t d"),
        *norm_rows("stack.final_norm", "model.decoder.layer_norm"),
        row("sound.first", "model.encoder.conv1.weight", "k c d", "d c k"),
        row("sound.first_bias", "model.encoder.conv1.bias", "d"),
        row("sound.second", "model.encoder.conv2.weight", "k c d", "d c k"),
        row("sound.second_bias", "model.encoder.conv2.bias", "d"),
        row("sound.positions", "model.encoder.embed_positions.weight", "t d"),
        *norm_rows("sound.stack.final_norm", "model.encoder.layer_norm"),
    ),
    stacks=(
        StackTable("stack", "model.decoder.layers.{layer}.", _LAYER),
        StackTable("sound.stack", "model.encoder.layers.{layer}.", _LAYER, "sound.stack"),
    ),
    copies=(("proj_out.weight", "model.decoder.embed_tokens.weight"),),
)  # fmt: skip
