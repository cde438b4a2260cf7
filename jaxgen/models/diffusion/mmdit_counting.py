"""Closed forms for the parameters and operations of a transformer of two streams."""

from __future__ import annotations

from jaxgen.models.base import ParameterCount
from jaxgen.models.diffusion.embedders import FREQUENCIES, count_two_layers
from jaxgen.models.diffusion.mmdit_config import JointKind, MMDiTConfig
from jaxgen.models.modulation import count_modulation


def count_mmdit(config: MMDiTConfig) -> ParameterCount:
    """Returns exact counts, equal to the real tree's."""
    embed = config.stack.embed_dim
    total = sum(
        group.repeats * _count_block(config, kind) for group in config.groups for kind in group.unit
    )
    total += config.single_layers * _count_single(config)
    total += (config.patch_width + config.context_dim + 2) * embed
    times = 1 if config.told_guidance is None else 2
    total += times * count_two_layers(FREQUENCIES, embed)
    total += count_two_layers(config.pooled_dim, embed)
    total += count_modulation(embed, embed, 2) + _norm(config)
    total += (embed + 1) * config.patch_width
    return ParameterCount(total=total, active=total)


def _count_block(config: MMDiTConfig, kind: JointKind) -> int:
    stack, embed = config.stack, config.stack.embed_dim
    parts = (9 if kind.is_dual else 6) + (2 if kind.is_last else 6)
    streams = 1 if kind.is_last else 2
    total = count_modulation(embed, embed, parts) + (2 + streams) * _norm(config)
    out = stack.num_heads * stack.width_of_head * embed + embed * stack.has_bias("attention_out")
    total += (2 + kind.is_dual) * _heads(config) + (streams + kind.is_dual) * out
    into = 2 if stack.gated else 1
    biases = (into * stack.mlp_dim + embed) * stack.has_bias("feed_forward")
    return total + streams * ((into + 1) * embed * stack.mlp_dim + biases)


def _count_single(config: MMDiTConfig) -> int:
    stack, embed = config.stack, config.stack.embed_dim
    total = count_modulation(embed, embed, 3) + _norm(config) + _heads(config)
    total += stack.num_heads * stack.width_of_head * embed + embed
    return total + 2 * embed * stack.mlp_dim + stack.mlp_dim


def _heads(config: MMDiTConfig) -> int:
    """Returns the parameters of one stream's queries, keys and values."""
    stack = config.stack
    heads, kv_heads = stack.num_heads, stack.kv_heads
    columns = (heads + 2 * kv_heads) * stack.width_of_head
    without_keys = (heads + kv_heads) * stack.width_of_head
    vectors = columns * stack.has_bias("qkv") + without_keys * stack.has_bias("qv")
    return columns * stack.embed_dim + vectors + 2 * stack.width_of_head * config.qk_norm


def _norm(config: MMDiTConfig) -> int:
    return config.stack.embed_dim * (config.stack.norm_scale + config.stack.has_bias("norm"))


def mmdit_flops(config: MMDiTConfig, context_length: int) -> int:
    """Returns the operations of a forward pass's matrix products for one picture."""
    embed, picture, text = config.stack.embed_dim, config.side**2, context_length
    products = sum(
        group.repeats * _products(config, kind, picture, text)
        for group in config.groups
        for kind in group.unit
    )
    stack, length = config.stack, picture + text
    inner, keys = (heads * stack.width_of_head for heads in (stack.num_heads, stack.kv_heads))
    single = length * 2 * embed * (inner + keys + stack.mlp_dim) + length**2 * 2 * inner
    products += config.single_layers * (single + 3 * embed**2)
    products += picture * 2 * config.patch_width * embed + text * config.context_dim * embed
    products += (FREQUENCIES + config.pooled_dim + 4 * embed) * embed
    products += 0 if config.told_guidance is None else (FREQUENCIES + embed) * embed
    return 2 * products


def _products(config: MMDiTConfig, kind: JointKind, picture: int, text: int) -> int:
    stack, embed = config.stack, config.stack.embed_dim
    inner, keys = (heads * stack.width_of_head for heads in (stack.num_heads, stack.kv_heads))
    mlp = (3 if stack.gated else 2) * embed * stack.mlp_dim
    whole = 2 * embed * (inner + keys)
    products = picture * (whole + mlp) + (picture + text) * picture * 2 * inner
    products += ((9 if kind.is_dual else 6) + (2 if kind.is_last else 6)) * embed**2
    if kind.is_dual:
        products += picture * whole + picture**2 * 2 * inner
    # A text that is left after the block has no queries: only its keys and values are read.
    products += text * (2 * embed * keys if kind.is_last else whole + mlp)
    return products + (0 if kind.is_last else text * (picture + text) * 2 * inner)
