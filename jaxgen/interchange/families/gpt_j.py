"""GPT-J (Wang and Komatsuzaki 2021) and GPT-Neo (Black et al. 2021), of EleutherAI."""

from __future__ import annotations

from typing import Any

from jaxgen.interchange.entries import Field, Linked, activation, checked, vocabulary
from jaxgen.interchange.tables import Family, StackTable, Values, row
from jaxgen.interchange.windows import (
    GLOBAL,
    LOCAL,
    layer_types,
    layers_in_order,
    shortest_period,
)
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.attention.masks import Causal, Window
from jaxgen.ops.positions import Rope

_INERT = (
    "attention_dropout", "attn_pdrop", "embd_pdrop", "embed_dropout", "n_ctx", "resid_dropout",
    "resid_pdrop", "rotary", "scale_attn_weights", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj",
)  # fmt: skip


def _read_rope(values: Values) -> dict[str, Any]:
    width = values["n_embd"] // values["n_head"]
    turned = checked("rotary_dim", values.get("rotary_dim", 64) or width, (int,))
    return {"layers": (LayerConfig(rope=Rope(fraction=turned / width, interleaved=True)),)}


def _write_rope(config: TransformerConfig) -> dict[str, Any]:
    rope = config.layers[0].rope or Rope()
    return {"rotary_dim": rope.width(config.width_of_head)}


def _wide(embed: str, inner: str) -> Linked:
    """Returns the entry of the feed-forward's width, four times the stream's by default."""
    return Linked(
        (inner,),
        lambda values: {"mlp_dim": checked(inner, values.get(inner) or 4 * values[embed], (int,))},
        lambda config: {inner: config.mlp_dim},
    )


GPT_J = Family(
    name="gpt_j",
    architectures=("GPTJForCausalLM",),
    model_types=("gptj",),
    constants={
        "norm": "layer",
        "parallel": True,
        "gated": False,
        "biases.feed_forward": True,
        "biases.norm": True,
        "biases.logits": True,
    },
    entries=(
        *vocabulary(tie_by_default=False),
        Field("n_embd", "embed_dim"),
        Field("n_layer", "num_layers"),
        Field("n_head", "num_heads"),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        activation("activation_function", "gelu_tanh"),
        _wide("n_embd", "n_inner"),
        Linked(("rotary_dim",), _read_rope, _write_rope),
    ),
    inert=(*_INERT, "n_positions"),
    rows=(
        row("embedding.table", "transformer.wte.weight", "v d"),
        row("stack.final_norm.scale", "transformer.ln_f.weight", "d"),
        row("stack.final_norm.bias", "transformer.ln_f.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
        row("logit_bias", "lm_head.bias", "v"),
    ),
    stacks=(
        StackTable(
            "stack",
            "transformer.h.{layer}.",
            (
                row("attention_norm.scale", "ln_1.weight", "d"),
                row("attention_norm.bias", "ln_1.bias", "d"),
                row("attention.query", "attn.q_proj.weight", "d h w", "(h w) d"),
                row("attention.key", "attn.k_proj.weight", "d h w", "(h w) d"),
                row("attention.value", "attn.v_proj.weight", "d h w", "(h w) d"),
                row("attention.out", "attn.out_proj.weight", "h w d", "d (h w)"),
                row("feed_forward.up", "mlp.fc_in.weight", "d f", "f d"),
                row("feed_forward.up_bias", "mlp.fc_in.bias", "f"),
                row("feed_forward.down", "mlp.fc_out.weight", "f d", "d f"),
                row("feed_forward.down_bias", "mlp.fc_out.bias", "d"),
            ),
        ),
    ),
    unused=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias|embed_positions)",),
    copies=(("lm_head.weight", "transformer.wte.weight"),),
)


def _read_layers(values: Values) -> dict[str, Any]:
    kinds = values.get("attention_layers")
    if not kinds:
        types = values.get("attention_types") or [[["global", "local"], values["num_layers"] // 2]]
        kinds = [kind for pattern, repeats in types for kind in pattern * repeats]
    window = checked("window_size", values.get("window_size", 256), (int,))
    layers = {
        "global": LayerConfig(rope=None),
        "local": LayerConfig((Causal(), Window(window)), rope=None),
    }
    return {"layers": tuple(layers[kind] for kind in shortest_period(kinds))}


def _write_layers(config: TransformerConfig) -> dict[str, Any]:
    names = {GLOBAL: "global", LOCAL: "local"}
    kinds = [names[kind] for kind in layer_types(config)]
    sizes = [one.size for layer in layers_in_order(config) for one in layer.mask
             if isinstance(one, Window)]  # fmt: skip
    return {
        "attention_layers": kinds,
        "attention_types": [[[kind], 1] for kind in kinds],
        "window_size": sizes[0] if sizes else 256,
    }


GPT_NEO = Family(
    name="gpt_neo",
    architectures=("GPTNeoForCausalLM",),
    model_types=("gpt_neo",),
    constants={
        "norm": "layer",
        "embedding_positions": "learned",
        "attention_scale": 1.0,
        "gated": False,
        "biases.attention_out": True,
        "biases.feed_forward": True,
        "biases.norm": True,
    },
    entries=(
        *vocabulary(tie_by_default=True),
        Field("hidden_size", "embed_dim"),
        Field("num_layers", "num_layers"),
        Field("num_heads", "num_heads"),
        Field("max_position_embeddings", "max_length"),
        Field("layer_norm_epsilon", "norm_epsilon", 1e-5, (float,)),
        activation("activation_function", "gelu_tanh"),
        _wide("hidden_size", "intermediate_size"),
        Linked(("attention_layers", "attention_types", "window_size"), _read_layers, _write_layers),
    ),
    inert=_INERT,
    rows=(
        row("embedding.table", "transformer.wte.weight", "v d"),
        row("embedding.positions", "transformer.wpe.weight", "t d"),
        row("stack.final_norm.scale", "transformer.ln_f.weight", "d"),
        row("stack.final_norm.bias", "transformer.ln_f.bias", "d"),
        row("unembedding", "lm_head.weight", "v d"),
    ),
    stacks=(
        StackTable(
            "stack",
            "transformer.h.{layer}.",
            (
                row("attention_norm.scale", "ln_1.weight", "d"),
                row("attention_norm.bias", "ln_1.bias", "d"),
                row("attention.query", "attn.attention.q_proj.weight", "d h w", "(h w) d"),
                row("attention.key", "attn.attention.k_proj.weight", "d h w", "(h w) d"),
                row("attention.value", "attn.attention.v_proj.weight", "d h w", "(h w) d"),
                row("attention.out", "attn.attention.out_proj.weight", "h w d", "d (h w)"),
                row("attention.out_bias", "attn.attention.out_proj.bias", "d"),
                row("feed_forward_norm.scale", "ln_2.weight", "d"),
                row("feed_forward_norm.bias", "ln_2.bias", "d"),
                row("feed_forward.up", "mlp.c_fc.weight", "d f", "f d"),
                row("feed_forward.up_bias", "mlp.c_fc.bias", "f"),
                row("feed_forward.down", "mlp.c_proj.weight", "f d", "d f"),
                row("feed_forward.down_bias", "mlp.c_proj.bias", "d"),
            ),
        ),
    ),
    unused=(r"transformer\.h\.\d+\.attn\.attention\.(bias|masked_bias)",),
    copies=(("lm_head.weight", "transformer.wte.weight"),),
)
