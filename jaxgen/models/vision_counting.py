"""Closed forms for the parameters and operations of a vision encoder."""

from __future__ import annotations

from jaxgen.models.counting import count_stack, stack_flops
from jaxgen.models.pooling import count_attention_pool
from jaxgen.models.stack_config import StackConfig
from jaxgen.models.vision import VisionConfig


def count_vision(config: VisionConfig) -> tuple[int, int]:
    """Returns the exact number of parameters, and that of the position table among them."""
    embed, stack = config.stack.embed_dim, config.stack
    positions = config.num_tokens * embed
    total = config.patch_width * embed + positions + count_stack(stack)
    total += embed * (config.patch_bias + config.class_token)
    if config.embedding_norm:
        total += embed * (stack.norm_scale + stack.has_bias("norm"))
    if config.pooling == "attention":
        total += count_attention_pool(stack)[0]
    return total, positions


def vision_flops(config: VisionConfig) -> int:
    """Returns the operations of a forward pass's matrix products for one image."""
    tokens, embed, stack = config.num_tokens, config.stack.embed_dim, config.stack
    flops = stack_flops(stack, tokens)
    flops += 2 * config.num_patches * config.patch_width * embed
    if config.pooling == "attention":
        keys = stack.kv_heads * stack.width_of_head
        heads = stack.num_heads * stack.width_of_head
        once = count_attention_pool(stack)[1]
        flops += 2 * (once + tokens * 2 * (embed * keys + heads))
    return flops


def stack_flops_per_token(stack: StackConfig, length: int) -> int:
    """Returns the operations of a stack's matrix products for a token of a row of `length`."""
    return stack_flops(stack, length) // length
