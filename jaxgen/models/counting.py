"""Closed forms for the parameters and the floating-point operations of a transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

from jaxgen.models.base import ParameterCount
from jaxgen.models.config import Group, TransformerConfig
from jaxgen.ops.moe_config import MoEConfig


@dataclasses.dataclass(frozen=True)
class _Matrices:
    """Weights of matrix products: those a token meets, and how many there are; other parameters.

    Of the active ones, `of_source` meet tokens of the encoder's output instead.
    """

    active: Fraction = Fraction(0)
    total: int = 0
    vectors: int = 0
    of_source: int = 0

    def __add__(self, other: _Matrices) -> _Matrices:
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return _Matrices(*(a + b for a, b in zip(mine, others, strict=True)))

    def times(self, factor: int) -> _Matrices:
        return _Matrices(*(factor * number for number in dataclasses.astuple(self)))


def _dense(weights: int, vectors: int = 0) -> _Matrices:
    return _Matrices(Fraction(weights), weights, vectors)


def count_parameters(config: TransformerConfig) -> ParameterCount:
    """Exact counts, equal to the real tree's."""
    embed, norm = config.embed_dim, _norm(config)
    tables = config.vocab_size * (1 if config.tie_embeddings else 2) + config.num_token_types
    if config.embedding_positions == "learned":
        tables += config.max_length or 0
    head = config.vocab_size if config.has_bias("logits") else 0
    if config.output_transform:
        head += embed * embed + embed + norm
    other = norm if config.embedding_norm else 0
    if config.pooler:
        other += embed * embed + embed
    blocks = _stack(config, config.groups, config.num_encoder_layers > 0)
    if config.num_encoder_layers:
        blocks += _stack(config, config.encoder_groups, False)
    shared = tables * embed + head + other + blocks.vectors
    return ParameterCount(
        total=shared + blocks.total,
        embedding=tables * embed,
        active=round(shared + blocks.active),
        head=head,
    )


def _norm(config: TransformerConfig) -> int:
    return config.embed_dim * (2 if config.has_bias("norm") else 1)


def _stack(config: TransformerConfig, groups: tuple[Group, ...], has_source: bool) -> _Matrices:
    return sum(_pieces(config, groups, has_source), _Matrices())


def _pieces(
    config: TransformerConfig, groups: tuple[Group, ...], has_source: bool
) -> Iterator[_Matrices]:
    """What a stack is made of."""
    bias = config.position_bias
    relative = 0 if bias is None else bias.num_rows * config.num_heads
    per_layer = bias is not None and bias.per_layer
    sublayers = 1 if config.parallel else 3 if has_source else 2
    norms = sublayers * (2 if config.norm_placement == "both" else 1) * _norm(config)
    final_norm = 0 if config.norm_placement == "post" else _norm(config)
    yield _Matrices(vectors=final_norm + (0 if per_layer else relative))
    for group in groups:
        for kind in group.unit:
            block = _attention(config, kind.layer.qk_norm)
            block += _Matrices(vectors=norms + (relative if per_layer else 0))
            if has_source:
                block += _cross_attention(config)
            block += _experts(config, config.moe) if kind.is_sparse and config.moe else _mlp(config)
            yield block.times(group.repeats)


def _attention(config: TransformerConfig, qk_norm: str | None = None) -> _Matrices:
    embed, latent = config.embed_dim, config.latent
    heads, kv_heads, width = config.num_heads, config.kv_heads, config.width_of_head
    if latent is None:
        weights = 2 * embed * (heads + kv_heads) * width
        vectors = (heads + 2 * kv_heads) * width if config.has_bias("qkv") else 0
        vectors += embed if config.has_bias("attention_out") else 0
        vectors += {"head": 2 * width, "width": (heads + kv_heads) * width}.get(qk_norm or "", 0)
        return _dense(weights, vectors)
    query_width = heads * (latent.nope_dim + latent.rope_dim)
    rank = latent.query_rank
    weights = embed * query_width if rank is None else rank * (embed + query_width)
    weights += embed * (latent.kv_rank + latent.rope_dim + heads * latent.value_dim)
    weights += latent.kv_rank * heads * (latent.nope_dim + latent.value_dim)
    return _dense(weights, (rank or 0) + latent.kv_rank)


def _cross_attention(config: TransformerConfig) -> _Matrices:
    of_source = 2 * config.embed_dim * config.kv_heads * config.width_of_head
    whole = _attention(dataclasses.replace(config, latent=None))
    return dataclasses.replace(whole, of_source=of_source)


def _mlp(config: TransformerConfig) -> _Matrices:
    into = 2 if config.gated else 1
    biases = into * config.mlp_dim + config.embed_dim if config.has_bias("feed_forward") else 0
    return _dense((into + 1) * config.embed_dim * config.mlp_dim, biases)


def _experts(config: TransformerConfig, moe: MoEConfig) -> _Matrices:
    matrices = 3 if (config.gated if moe.gated is None else moe.gated) else 2
    expert = matrices * config.embed_dim * moe.mlp_dim
    always = config.embed_dim * moe.num_experts + matrices * config.embed_dim * moe.shared_mlp_dim
    visits = Fraction(moe.experts_per_token)
    if moe.router == "expert_choice":
        visits *= Fraction(moe.capacity_factor or 1.0)
    biases = moe.num_experts if moe.bias_balancing else 0
    return _Matrices(always + visits * expert, always + moe.num_experts * expert, biases)


def forward_flops_per_token(
    config: TransformerConfig, length: int, source_length: int | None = None
) -> int:
    """Operations of the matrix products of a forward pass, for one token of a row of `length`.

    A multiply-add counts as two. Attention counts every query against every key, as is the custom
    (PaLM, 2204.02311, appendix B); a program that skips what causality hides does less. Of an
    encoder-decoder it is a token of the decoder, which bears its share of the encoder's work on a
    source of `source_length` tokens (None: `length`).
    """
    scores = config.num_heads * 2 * config.width_of_head
    if config.latent is not None:
        latent = config.latent
        scores = config.num_heads * (latent.nope_dim + latent.rope_dim + latent.value_dim)
    blocks = _stack(config, config.groups, config.num_encoder_layers > 0)
    products = blocks.active - blocks.of_source + config.num_layers * length * scores
    if config.num_encoder_layers:
        source = length if source_length is None else source_length
        of_source = _stack(config, config.encoder_groups, False).active + blocks.of_source
        of_source += config.num_encoder_layers * source * scores
        cross = config.num_heads * 2 * config.width_of_head
        products += of_source * Fraction(source, length) + config.num_layers * source * cross
    if config.output_transform:
        products += config.embed_dim**2
    return round(2 * (products + config.embed_dim * config.vocab_size))


def training_flops_per_token(
    config: TransformerConfig, length: int, source_length: int | None = None
) -> int:
    """Forward and backward: three times the forward pass; recomputation is not counted."""
    return 3 * forward_flops_per_token(config, length, source_length)
