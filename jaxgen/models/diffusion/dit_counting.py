"""Closed forms for the parameters and operations of a diffusion transformer."""

from __future__ import annotations

from jaxgen.models.base import ParameterCount
from jaxgen.models.counting import count_stack, stack_flops
from jaxgen.models.diffusion.dit_config import DiTConfig
from jaxgen.models.diffusion.embedders import FREQUENCIES, count_two_layers
from jaxgen.models.modulation import count_modulation


def count_dit(config: DiTConfig) -> ParameterCount:
    """Returns exact counts, equal to the real tree's."""
    embed, layers, bottleneck = _sizes(config)
    total = count_stack(config.stack, config.context_dim)
    total += layers * count_modulation(embed, embed, 6) + count_modulation(embed, embed, 2)
    total += (config.patch_width if bottleneck is None else bottleneck) * embed + embed
    total += config.patch_width * (bottleneck or 0)
    times = 2 if config.image_channels else 1
    total += times * count_two_layers(FREQUENCIES, embed)
    if config.pooled_layers and config.pooled_dim is not None:
        total += count_two_layers(config.pooled_dim, embed)
    total += (embed + 1) * config.patch_size**2 * config.out_channels
    return ParameterCount(total=total, active=total)


def dit_flops(config: DiTConfig, context_length: int) -> int:
    """Returns the operations of a forward pass's matrix products for one picture."""
    embed, layers, bottleneck = _sizes(config)
    tokens, context = config.side**2, 0 if config.context_dim is None else context_length
    flops = stack_flops(config.stack, tokens, config.context_dim, context)
    vectors = (6 * layers + 2) * embed**2
    vectors += (2 if config.image_channels else 1) * (FREQUENCIES + embed) * embed
    if config.pooled_layers and config.pooled_dim is not None:
        vectors += (config.pooled_dim + embed) * embed
    each = config.patch_width * (embed if bottleneck is None else bottleneck)
    each += (bottleneck or 0) * embed + embed * config.patch_size**2 * config.out_channels
    return flops + 2 * (vectors + tokens * each)


def _sizes(config: DiTConfig) -> tuple[int, int, int | None]:
    return config.stack.embed_dim, config.stack.num_layers, config.bottleneck_dim
