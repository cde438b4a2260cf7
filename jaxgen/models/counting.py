"""Closed forms for the parameters and the floating-point operations of a transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction

from jaxgen.models.base import ParameterCount
from jaxgen.models.config import TransformerConfig
from jaxgen.models.media import count_media, media_flops
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.moe_config import MoEConfig


@dataclasses.dataclass(frozen=True)
class _Matrices:
    """Weights of matrix products: those a token meets, and how many there are; other parameters.

    Of the active ones, `attended` meet tokens of the encoder's output instead. Of the other
    parameters, `idle` are of experts that a token does not visit.
    """

    active: Fraction = Fraction(0)
    total: int = 0
    vectors: int = 0
    attended: int = 0
    idle: Fraction = Fraction(0)

    def __add__(self, other: _Matrices) -> _Matrices:
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return _Matrices(*(a + b for a, b in zip(mine, others, strict=True)))

    def times(self, factor: int) -> _Matrices:
        return _Matrices(*(factor * number for number in dataclasses.astuple(self)))


def _dense(weights: int, vectors: int = 0) -> _Matrices:
    return _Matrices(Fraction(weights), weights, vectors)


def count_parameters(config: TransformerConfig) -> ParameterCount:
    """Returns exact counts, equal to the real tree's."""
    embed, norm, encoder = config.embed_dim, _norm(config), config.encoder_stack
    embedding, other = _embedding(config, config)
    head = config.vocab_size if config.has_bias("logits") else 0
    if not config.tie_embeddings:
        embedding += config.vocab_size * config.table_width
    if config.table_dim is not None:
        head += config.table_dim * embed
    if config.output_transform:
        head += embed * embed + embed + norm
    if config.pooler:
        other += embed * embed + embed
    if config.next_sentence:
        head += 2 * embed + 2
    blocks = _stack(config, config.attended_dim)
    if config.sound is not None:
        whole, tables = config.sound.size()
        embedding, other = embedding + tables, other + whole - tables
    if encoder is not None:
        blocks += _stack(encoder)
        if encoder.embed_dim != embed:
            tables, norms = _embedding(config, encoder)
            embedding, other = embedding + tables, other + norms
    other += sum(count_media(one, embed) for one in config.media)
    embedding += sum(one.encoder.size()[1] for one in config.media)
    other -= sum(one.encoder.size()[1] for one in config.media)
    shared = embedding + head + other + blocks.vectors
    modules = sum(map(_module_weights, _modules(config)), _Matrices())
    multi_token = modules.total + modules.vectors
    return ParameterCount(
        total=shared + blocks.total + multi_token,
        embedding=embedding,
        active=round(shared + blocks.active - blocks.idle),
        head=head,
        multi_token=multi_token,
    )


def _modules(config: TransformerConfig) -> list[StackConfig]:
    """Returns the stacks of the modules of multi-token prediction."""
    return [config.mtp_stack(depth) for depth in range(config.mtp_depth)]


def _module_weights(stack: StackConfig) -> _Matrices:
    return _stack(stack) + _dense(2 * stack.embed_dim**2, 2 * _norm(stack))


def _embedding(config: TransformerConfig, stack: StackConfig) -> tuple[int, int]:
    """Returns the tables that a stack reads from, and what stands after them."""
    rows, width = config.num_token_types + sum(config.place_embeddings), config.table_dim
    rows += config.text_positions
    if config.embedding_positions == "learned":
        rows += (config.max_length or 0) + config.unused_positions
    tables = rows * stack.embed_dim + config.vocab_size * (width or stack.embed_dim)
    return tables, (width or 0) * stack.embed_dim + _norm(stack) * config.embedding_norm


def _norm(config: StackConfig) -> int:
    return config.embed_dim * (config.norm_scale + config.has_bias("norm"))


def _stack(config: StackConfig, attended_dim: int | None = None) -> _Matrices:
    return sum(_pieces(config, attended_dim), _Matrices())


def count_stack(config: StackConfig, attended_dim: int | None = None) -> int:
    """Returns the exact number of parameters of a stack with the norm after it.

    Args:
      config: of the stack.
      attended_dim: width of what every block attends to; None: there is no cross-attention.
    """
    blocks = _stack(config, attended_dim)
    return blocks.total + blocks.vectors


def stack_flops(
    config: StackConfig, length: int, attended_dim: int | None = None, attended_length: int = 0
) -> int:
    """Returns the operations of a stack's matrix products in a forward pass for a row."""
    blocks = _stack(config, attended_dim)
    products = length * (blocks.active - blocks.attended)
    products += config.num_layers * length**2 * _scores(config)
    if attended_dim is not None:
        cross = 2 * config.num_heads * config.width_of_head
        products += attended_length * (blocks.attended + config.num_layers * length * cross)
    return round(2 * products)


def _pieces(config: StackConfig, attended_dim: int | None) -> Iterator[_Matrices]:
    """Yields the parts of a stack, with cross-attention to a stream of width `attended_dim`."""
    bias = config.position_bias
    relative = 0 if bias is None else bias.num_rows * config.num_heads
    per_layer = bias is not None and bias.per_layer
    sublayers = config.parallel_norms if config.parallel else 2 if attended_dim is None else 3
    norms = sublayers * (2 if config.norm_placement == "both" else 1) * _norm(config)
    final_norm = 0 if config.norm_placement == "post" else _norm(config)
    yield _Matrices(vectors=final_norm + (0 if per_layer else relative))
    for group in config.groups:
        for kind in group.unit:
            block = _attention(config, kind.layer.qk_norm)
            block += _Matrices(vectors=norms + (relative if per_layer else 0))
            if attended_dim is not None:
                block += _cross_attention(config, attended_dim)
            block += _experts(config, config.moe) if kind.is_sparse and config.moe else _mlp(config)
            yield block.times(group.repeats)


def _attention(config: StackConfig, qk_norm: str | None = None) -> _Matrices:
    embed, latent = config.embed_dim, config.latent
    heads, kv_heads, width = config.num_heads, config.kv_heads, config.width_of_head
    if latent is None:
        weights = 2 * embed * (heads + kv_heads) * width
        vectors = (heads + 2 * kv_heads) * width if config.has_bias("qkv") else 0
        vectors += (heads + kv_heads) * width if config.has_bias("qv") else 0
        vectors += embed if config.has_bias("attention_out") else 0
        each = {None: 0, "unit": 0, "head": 2, "heads_layer": 2 * (heads + kv_heads)}
        scales = each.get(qk_norm, heads + kv_heads) * width
        has_scales = config.norm_scale or qk_norm == "heads_layer"
        vectors += scales * has_scales + heads * config.attention_sinks
        return _dense(weights, vectors)
    query_width = heads * (latent.nope_dim + latent.rope_dim)
    rank = latent.query_rank
    weights = embed * query_width if rank is None else rank * (embed + query_width)
    weights += embed * (latent.kv_rank + latent.rope_dim + heads * latent.value_dim)
    weights += latent.kv_rank * heads * (latent.nope_dim + latent.value_dim)
    return _dense(weights, ((rank or 0) + latent.kv_rank) * config.norm_scale)


def _cross_attention(config: StackConfig, attended_dim: int) -> _Matrices:
    own = _attention(dataclasses.replace(config, latent=None, attention_sinks=False))
    wide = config.width_of_head
    attended = 2 * attended_dim * config.kv_heads * wide
    more = attended - 2 * config.embed_dim * config.kv_heads * wide
    return _Matrices(own.active + more, own.total + more, own.vectors, attended)


def _mlp(config: StackConfig) -> _Matrices:
    into = 2 if config.gated else 1
    biases = into * config.mlp_dim + config.embed_dim if config.has_bias("feed_forward") else 0
    return _dense((into + 1) * config.embed_dim * config.mlp_dim, biases)


def _experts(config: StackConfig, moe: MoEConfig) -> _Matrices:
    matrices = 3 if (config.gated if moe.gated is None else moe.gated) else 2
    expert = matrices * config.embed_dim * moe.mlp_dim
    always = moe.num_experts + moe.shared_gate + matrices * moe.shared_mlp_dim
    always *= config.embed_dim
    visits = moe.visits
    own = (matrices - 1) * moe.mlp_dim + config.embed_dim if moe.biases else 0
    biases = moe.num_experts * (moe.bias_balancing + moe.biases + own)
    idle = (moe.num_experts - visits) * own
    return _Matrices(always + visits * expert, always + moe.num_experts * expert, biases, idle=idle)


def forward_flops_per_token(
    config: TransformerConfig, length: int, source_length: int | None = None
) -> int:
    """Returns the operations of a forward pass's matrix products for a token of a row of `length`.

    A multiply-add counts as two. Attention counts every query against every key, as is the custom
    (PaLM, 2204.02311, appendix B); a program that skips what causality hides does less. Of an
    encoder-decoder it is a token of the decoder, which bears its share of the encoder's work on a
    source of `source_length` tokens (None: `length`).
    """
    encoder = config.encoder_stack
    blocks = _stack(config, config.attended_dim)
    products = blocks.active - blocks.attended + config.num_layers * length * _scores(config)
    if encoder is not None:
        source = length if source_length is None else source_length
        once = _stack(encoder).active + blocks.attended
        once += encoder.num_layers * source * _scores(encoder)
        cross = config.num_heads * 2 * config.width_of_head
        products += once * Fraction(source, length) + config.num_layers * source * cross
    if config.sound is not None:
        tokens = config.sound.num_tokens
        cross = config.num_heads * 2 * config.width_of_head
        once = Fraction(config.sound.forward_flops(), 2) + tokens * blocks.attended
        products += once / length + config.num_layers * tokens * cross
    if config.output_transform:
        products += config.embed_dim**2
    if config.table_dim is not None:
        products += 2 * config.embed_dim * config.table_dim
    return round(2 * (products + config.table_width * config.vocab_size))


def _scores(config: StackConfig) -> int:
    """Products of one query with one key and its value, over all heads."""
    latent = config.latent
    if latent is None:
        return config.num_heads * 2 * config.width_of_head
    return config.num_heads * (latent.nope_dim + latent.rope_dim + latent.value_dim)


def training_flops_per_token(
    config: TransformerConfig, length: int, source_length: int | None = None
) -> int:
    """Returns three times the forward pass's operations; recomputation is not counted.

    Modules of multi-token prediction count, each with its pass through the head; media that are
    read as vectors count as if rows were full of them.
    """
    head = config.embed_dim * config.vocab_size
    modules = _modules(config)
    further = sum(_module_weights(one).active + length * _scores(one) + head for one in modules)
    text = 3 * (forward_flops_per_token(config, length, source_length) + round(2 * further))
    return text + _media_flops_per_token(config, length)


def _media_flops_per_token(config: TransformerConfig, length: int) -> int:
    """Returns the operations of reading as many media as rows of a length can hold, by token.

    A frozen encoder has no backward pass.
    """
    flops = 0
    for one in config.media:
        encoder, projector = media_flops(one, config.embed_dim)
        flops += (length // one.num_vectors) * ((1 if one.frozen else 3) * encoder + 3 * projector)
    return round(Fraction(flops, length))
