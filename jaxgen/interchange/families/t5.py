"""T5 (1910.10683) and its version 1.1, which gates its feed-forward."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.interchange.entries import Field, Fixed, Linked
from jaxgen.interchange.tables import Family, StackTable, TensorRow, Values, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.masks import Bidirectional

_PLAIN = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
_GATED = {"gated-gelu": "gelu_tanh", "gated-silu": "silu", "gated-relu": "relu"}


def _is_gated(values: Values) -> bool:
    return str(values.get("feed_forward_proj")).startswith("gated")


def _read_head(values: Values) -> dict[str, Any]:
    """Returns how logits are made: only tied ones are scaled, unless the file says otherwise."""
    tied = values.get("tie_word_embeddings") is not False
    scaled = values.get("scale_decoder_outputs")
    return {"tie_embeddings": tied, "scale_logits": tied if scaled is None else bool(scaled)}


def _write_head(config: TransformerConfig) -> dict[str, Any]:
    return {
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.scale_logits,
    }


def _attention(ours: str, theirs: str) -> tuple[TensorRow, ...]:
    return (
        row(f"{ours}.query", f"{theirs}.q.weight", "d h w", "(h w) d"),
        row(f"{ours}.key", f"{theirs}.k.weight", "d h w", "(h w) d"),
        row(f"{ours}.value", f"{theirs}.v.weight", "d h w", "(h w) d"),
        row(f"{ours}.out", f"{theirs}.o.weight", "h w d", "d (h w)"),
    )


def _stack(ours: str, theirs: str, feed_forward: str, gated: bool) -> StackTable:
    inside = f"{feed_forward}.DenseReluDense"
    up = "wi_1" if gated else "wi"
    return StackTable(
        ours,
        f"{theirs}.block.{{layer}}.",
        (
            row("attention_norm.scale", "layer.0.layer_norm.weight", "d"),
            *_attention("attention", "layer.0.SelfAttention"),
            row("cross_norm.scale", "layer.1.layer_norm.weight", "d"),
            *_attention("cross_attention", "layer.1.EncDecAttention"),
            row("feed_forward_norm.scale", f"{feed_forward}.layer_norm.weight", "d"),
            row("feed_forward.gate", f"{inside}.wi_0.weight", "d f", "f d"),
            row("feed_forward.up", f"{inside}.{up}.weight", "d f", "f d"),
            row("feed_forward.down", f"{inside}.wo.weight", "f d", "d f"),
        ),
        "encoder_stack" if ours == "encoder" else "",
    )


_RELATIVE = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def _family(name: str, gated: bool) -> Family:
    kinds = _GATED if gated else _PLAIN
    return Family(
        name=name,
        architectures=("T5ForConditionalGeneration", "T5WithLMHeadModel"),
        model_types=("t5",),
        accepts=lambda values: _is_gated(values) == gated,
        constants={
            "layers": (LayerConfig(rope=None),),
            "attention_scale": 1.0,
            "gated": gated,
        },
        entries=(
            Field("vocab_size", "vocab_size"),
            Field("d_model", "embed_dim"),
            Field("d_kv", "head_dim"),
            Field("d_ff", "mlp_dim"),
            Field("num_heads", "num_heads"),
            Field("num_layers", "num_encoder_layers"),
            Linked(
                ("num_decoder_layers",),
                lambda v: {"num_layers": v.get("num_decoder_layers") or v["num_layers"]},
                lambda config: {"num_decoder_layers": config.num_layers},
            ),
            Field("layer_norm_epsilon", "norm_epsilon", 1e-6, (float,)),
            Field("relative_attention_num_buckets", "position_bias.num_buckets", 32),
            Field("relative_attention_max_distance", "position_bias.max_distance", 128),
            Field("feed_forward_proj", "activation", next(iter(kinds.values())), (str,), kinds),
            Linked(("tie_word_embeddings", "scale_decoder_outputs"), _read_head, _write_head),
            Fixed("is_encoder_decoder", True),
            Fixed("is_decoder", False),
        ),
        # Implied by feed_forward_proj, or read by training and generation only.
        inert=(
            "decoder_start_token_id", "dense_act_fn", "dropout_rate", "initializer_factor",
            "is_gated_act", "n_positions", "output_past",
        ),
        rows=(
            row("embedding.table", "shared.weight", "v d"),
            row("encoder.relative", f"encoder.{_RELATIVE}", "b h"),
            row("encoder.final_norm.scale", "encoder.final_layer_norm.weight", "d"),
            row("stack.relative", f"decoder.{_RELATIVE}", "b h"),
            row("stack.final_norm.scale", "decoder.final_layer_norm.weight", "d"),
            row("unembedding", "lm_head.weight", "v d"),
        ),
        stacks=(
            _stack("encoder", "encoder", "layer.1", gated),
            _stack("stack", "decoder", "layer.2", gated),
        ),
        # Published files have relative positions of cross-attention, which no model uses.
        unused=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
        copies=(
            ("encoder.embed_tokens.weight", "shared.weight"),
            ("decoder.embed_tokens.weight", "shared.weight"),
            ("lm_head.weight", "shared.weight"),
        ),
    )  # fmt: skip


T5 = _family("t5", gated=False)
T5_GATED = _family("t5_v1_1", gated=True)


def _encoder(name: str, whole: Family) -> Family:
    """Returns the family of an encoder that was taken out of its model (Imagen, SD 3, PixArt)."""
    gated = whole is T5_GATED
    of_decoder = {
        "num_layers", "num_decoder_layers", "tie_word_embeddings", "scale_decoder_outputs",
        "is_encoder_decoder", "is_decoder",
    }  # fmt: skip
    entries = [one for one in whole.entries if not of_decoder & set(one.keys)]
    return dataclasses.replace(
        whole,
        name=name,
        architectures=("T5EncoderModel",),
        constants=dict(whole.constants)
        | {"layers": (LayerConfig(mask=(Bidirectional(),), rope=None),)},
        entries=(*entries, Field("num_layers", "num_layers")),
        inert=(*whole.inert, *sorted(of_decoder - {"num_layers"}), "classifier_dropout"),
        rows=(
            row("embedding.table", "shared.weight", "v d"),
            row("stack.relative", f"encoder.{_RELATIVE}", "b h"),
            row("stack.final_norm.scale", "encoder.final_layer_norm.weight", "d"),
        ),
        stacks=(_stack("stack", "encoder", "layer.1", gated),),
        unused=(),
        copies=whole.copies[:1],
        written={"is_encoder_decoder": False},
    )


T5_ENCODER = _encoder("t5_encoder", T5)
T5_GATED_ENCODER = _encoder("t5_v1_1_encoder", T5_GATED)
