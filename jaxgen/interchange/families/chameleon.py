"""Chameleon (2405.09818): Llama 2 over texts and codes of pictures, its queries and keys normed.

The language part alone: pictures are codes among the tokens, and the tensors of the tokenizer that
makes these are neither read nor written. transformers lets no model write codes, whose logits it
sets to the lowest where `vocabulary_map` names them ("IMGIMG..."); jaxgen's logits are the model's.
"""

from __future__ import annotations

import dataclasses

from jaxgen.interchange.entries import Fixed
from jaxgen.interchange.families import rows
from jaxgen.interchange.families.llama import LLAMA
from jaxgen.interchange.tables import StackTable, row
from jaxgen.interchange.windows import rotary_layers

_NORMS_OF_HEADS = (
    row("attention.query_norm.scale", "self_attn.q_norm.weight", "h w"),
    row("attention.query_norm.bias", "self_attn.q_norm.bias", "h w"),
    row("attention.key_norm.scale", "self_attn.k_norm.weight", "h w"),
    row("attention.key_norm.bias", "self_attn.k_norm.bias", "h w"),
)
_LAYER = (*rows.ATTENTION, *_NORMS_OF_HEADS, *rows.FEED_FORWARD)
_ENTRIES = LLAMA.entries[:-1]  # All but its layers.

CHAMELEON = dataclasses.replace(
    LLAMA,
    name="chameleon",
    architectures=("ChameleonForConditionalGeneration",),
    model_types=("chameleon",),
    entries=(*_ENTRIES, Fixed("swin_norm", False), rotary_layers(qk_norm="heads_layer")),
    inert=(*rows.INERT, "image_token_id", "model_parallel_size", "vocabulary_map", "vq_config"),
    stacks=(StackTable("stack", rows.LAYER, (*rows.NORMS, *_LAYER)),),
    unused=(*rows.UNUSED, r"model\.vqmodel\..*"),
    # transformers needs one; the ids of the released tokenizer's codes are 4 to 8,195.
    written={"vocabulary_map": {"<image>": 8711}},
    accepts=lambda values: not values.get("swin_norm"),
)

CHAMELEON_POST = dataclasses.replace(
    CHAMELEON,
    name="chameleon_post",
    constants={"norm_placement": "output"},
    entries=(*_ENTRIES, Fixed("swin_norm", True), rotary_layers(qk_norm="heads_layer")),
    stacks=(
        StackTable(
            "stack",
            rows.LAYER,
            (
                row("attention_post_norm.scale", "input_layernorm.weight", "d"),
                row("feed_forward_post_norm.scale", "post_attention_layernorm.weight", "d"),
                *_LAYER,
            ),
        ),
    ),
    accepts=lambda values: bool(values.get("swin_norm")),
)
