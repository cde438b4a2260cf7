"""BERT (1810.04805): norms after each part, a head that transforms before it scores tokens."""

from __future__ import annotations

from jaxgen.interchange.entries import Field, Fixed, activation
from jaxgen.interchange.families import rows
from jaxgen.interchange.tables import Family, StackTable, row
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.masks import Bidirectional

_LAYER = (
    row("attention.query", "attention.self.query.weight", "d h w", "(h w) d"),
    row("attention.query_bias", "attention.self.query.bias", "h w", "(h w)"),
    row("attention.key", "attention.self.key.weight", "d h w", "(h w) d"),
    row("attention.key_bias", "attention.self.key.bias", "h w", "(h w)"),
    row("attention.value", "attention.self.value.weight", "d h w", "(h w) d"),
    row("attention.value_bias", "attention.self.value.bias", "h w", "(h w)"),
    row("attention.out", "attention.output.dense.weight", "h w d", "d (h w)"),
    row("attention.out_bias", "attention.output.dense.bias", "d"),
    row("attention_post_norm.scale", "attention.output.LayerNorm.weight", "d"),
    row("attention_post_norm.bias", "attention.output.LayerNorm.bias", "d"),
    row("feed_forward.up", "intermediate.dense.weight", "d f", "f d"),
    row("feed_forward.up_bias", "intermediate.dense.bias", "f"),
    row("feed_forward.down", "output.dense.weight", "f d", "d f"),
    row("feed_forward.down_bias", "output.dense.bias", "d"),
    row("feed_forward_post_norm.scale", "output.LayerNorm.weight", "d"),
    row("feed_forward_post_norm.bias", "output.LayerNorm.bias", "d"),
)


def _family(name: str, architecture: str, prefix: str, masked: bool, pooled: bool) -> Family:
    embeddings, head = f"{prefix}embeddings", "cls.predictions"
    heads = (
        row("transform.weight", f"{head}.transform.dense.weight", "d e", "e d"),
        row("transform.bias", f"{head}.transform.dense.bias", "e"),
        row("transform.norm.scale", f"{head}.transform.LayerNorm.weight", "d"),
        row("transform.norm.bias", f"{head}.transform.LayerNorm.bias", "d"),
        row("logit_bias", f"{head}.bias", "v"),
    )
    pooler = (
        row("pooler.weight", f"{prefix}pooler.dense.weight", "d e", "e d"),
        row("pooler.bias", f"{prefix}pooler.dense.bias", "e"),
    )
    pairs = (
        row("next_sentence.weight", "cls.seq_relationship.weight", "d c", "c d"),
        row("next_sentence.bias", "cls.seq_relationship.bias", "c"),
    )
    return Family(
        name=name,
        architectures=(architecture,),
        model_types=("bert",),
        constants={
            "layers": (LayerConfig(mask=(Bidirectional(),), rope=None),),
            "norm": "layer",
            "norm_placement": "post",
            "embedding_norm": True,
            "embedding_positions": "learned",
            "gated": False,
            **rows.BIASES,
            "biases.logits": masked,
            "output_transform": masked,
            "pooler": pooled,
            "next_sentence": masked and pooled,
        },
        entries=(
            Field("vocab_size", "vocab_size"),
            Field("hidden_size", "embed_dim"),
            Field("num_hidden_layers", "num_layers"),
            Field("num_attention_heads", "num_heads"),
            Field("intermediate_size", "mlp_dim"),
            Field("max_position_embeddings", "max_length"),
            Field("type_vocab_size", "num_token_types", 2),
            Field("layer_norm_eps", "norm_epsilon", 1e-12, (float,)),
            activation("hidden_act", "gelu"),
            Fixed("tie_word_embeddings", True),
            Fixed("position_embedding_type", "absolute"),
            Fixed("is_decoder", False),
            Fixed("add_cross_attention", False),
        ),
        inert=(
            "attention_probs_dropout_prob", "directionality", "hidden_dropout_prob",
            "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
            "pooler_size_per_head", "pooler_type",
        ),
        rows=(
            row("embedding.table", f"{embeddings}.word_embeddings.weight", "v d"),
            row("embedding.positions", f"{embeddings}.position_embeddings.weight", "t d"),
            row("embedding.types", f"{embeddings}.token_type_embeddings.weight", "t d"),
            row("embedding.norm.scale", f"{embeddings}.LayerNorm.weight", "d"),
            row("embedding.norm.bias", f"{embeddings}.LayerNorm.bias", "d"),
            *(heads if masked else ()),
            *(pooler if pooled else ()),
            *(pairs if masked and pooled else ()),
        ),
        stacks=(StackTable("stack", prefix + "encoder.layer.{layer}.", _LAYER),),
        renames=(
            # Files that were converted from the first release, of TensorFlow.
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            (r"^(?:bert\.)?(embeddings|encoder|pooler)\.", prefix + r"\1."),
        ),
        # The heads of other architectures, and a buffer.
        unused=(
            r".*embeddings\.position_ids",
            *(() if masked and pooled else (r"cls\.seq_relationship\..*",)),
            *(() if pooled else (r"bert\.pooler\..*",)),
            *(() if masked else (r"cls\.predictions\..*",)),
        ),
        copies=(
            (f"{head}.decoder.weight", f"{embeddings}.word_embeddings.weight"),
            (f"{head}.decoder.bias", f"{head}.bias"),
        ) if masked else (),
    )  # fmt: skip


BERT_MASKED = _family("bert_masked", "BertForMaskedLM", "bert.", masked=True, pooled=False)
BERT = _family("bert", "BertModel", "", masked=False, pooled=True)
BERT_PRETRAINING = _family(
    "bert_pretraining", "BertForPreTraining", "bert.", masked=True, pooled=True
)
