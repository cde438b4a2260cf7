"""Closed forms for the parameters and the floating-point operations of a transformer."""

from __future__ import annotations

import dataclasses

from jaxgen.models.config import MoEConfig, TransformerConfig


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """How many numbers a model holds.

    Attributes:
      total: all.
      embedding: the token, position and unembedding tables.
      active: those that compute one token: all but the experts a token is not sent to.
    """

    total: int
    embedding: int
    active: int


def count_parameters(config: TransformerConfig) -> ParameterCount:
    """Exact counts, equal to the real tree's."""
    embed = config.embed_dim
    tables = config.vocab_size * (1 if config.tie_embeddings else 2)
    if config.positions == "learned":
        tables += config.max_length or 0
    norm = embed * (2 if config.norm == "layer" else 1)
    shared = tables * embed + norm
    num_sparse = config.num_units if config.moe else 0
    per_layer = _attention_parameters(config) + 2 * norm
    total = shared + config.num_layers * per_layer
    total += (config.num_layers - num_sparse) * _dense_parameters(config)
    active = total
    if config.moe:
        router = embed * config.moe.num_experts
        expert = _expert_parameters(config, config.moe)
        total += num_sparse * (router + config.moe.num_experts * expert)
        active += num_sparse * (router + config.moe.experts_per_token * expert)
    return ParameterCount(total=total, embedding=tables * embed, active=active)


def _attention_parameters(config: TransformerConfig) -> int:
    query = config.num_heads * config.width_of_head
    kv = config.kv_heads * config.width_of_head
    weights = config.embed_dim * (2 * query + 2 * kv)
    return weights + (query + 2 * kv + config.embed_dim if config.use_bias else 0)


def _dense_parameters(config: TransformerConfig) -> int:
    into = 2 if config.feed_forward_is_gated else 1
    weights = (into + 1) * config.embed_dim * config.mlp_dim
    return weights + (into * config.mlp_dim + config.embed_dim if config.use_bias else 0)


def _expert_parameters(config: TransformerConfig, moe: MoEConfig) -> int:
    return (3 if config.feed_forward_is_gated else 2) * config.embed_dim * moe.mlp_dim


def forward_flops_per_token(config: TransformerConfig, length: int) -> int:
    """Operations of the matrix products of a forward pass, for one token of a row of `length`.

    A multiply-add counts as two. Attention counts every query against every key, as is the custom
    (PaLM, 2204.02311, appendix B); a program that skips what causality hides does less.
    """
    width = config.width_of_head
    projections = config.embed_dim * (2 * config.num_heads + 2 * config.kv_heads) * width
    scores = 2 * length * config.num_heads * width
    matrices = 3 if config.feed_forward_is_gated else 2
    dense = matrices * config.embed_dim * config.mlp_dim
    num_sparse = config.num_units if config.moe else 0
    products = config.num_layers * (projections + scores)
    products += (config.num_layers - num_sparse) * dense
    if config.moe:
        experts = config.moe.experts_per_token * _expert_parameters(config, config.moe)
        products += num_sparse * (config.embed_dim * config.moe.num_experts + experts)
    return 2 * (products + config.embed_dim * config.vocab_size)


def training_flops_per_token(config: TransformerConfig, length: int) -> int:
    """Forward and backward: three times the forward pass; recomputation is not counted."""
    return 3 * forward_flops_per_token(config, length)


def six_n_flops_per_token(config: TransformerConfig) -> int:
    """The approximation 6N of Kaplan et al. (2001.08361), N the active non-embedding parameters."""
    count = count_parameters(config)
    return 6 * (count.active - count.embedding)
