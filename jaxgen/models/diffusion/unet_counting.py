"""Closed forms for the parameters and operations of a U-Net.

Both are sums over the layers: a layer's parameters are its weights and their biases, and its
operations those of products and convolutions, whose borders count as if they were whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from jaxgen.models.diffusion.unet_config import AttentionKind, UNetConfig


@dataclasses.dataclass(frozen=True)
class Cost:
    """A layer's parameters, and its operations for one picture."""

    parameters: int
    flops: int = 0


def count_unet(config: UNetConfig) -> int:
    """Returns the exact number of parameters."""
    return sum(cost.parameters for cost in _costs(config, 0))


def unet_flops(config: UNetConfig, context_length: int) -> int:
    """Returns the operations of a forward pass for one picture.

    Args:
      config: the network's.
      context_length: tokens of the sequence that it is told, but for those of the vector.
    """
    return sum(cost.flops for cost in _costs(config, context_length + config.pooled_tokens))


def linear(n_in: int, n_out: int, places: int, bias: bool = True, window: int = 1) -> Cost:
    """Returns the cost of a matrix, or of a convolution, that reads so many places."""
    weights = window * n_in * n_out
    return Cost(weights + bias * n_out, 2 * weights * places)


def residual_block(
    n_in: int, n_out: int, places: int, time: tuple[int, int] | None = None
) -> Iterator[Cost]:
    """Yields the costs of a residual block.

    Args:
      n_in: channels that it reads.
      n_out: channels that it gives.
      places: pixels of one picture.
      time: widths of the matrix that the embedding of time goes through, if it is told one.
    """
    yield Cost(2 * n_in + 2 * n_out)
    yield linear(n_in, n_out, places, window=9)
    yield linear(n_out, n_out, places, window=9)
    if time is not None:
        yield linear(*time, 1)
    if n_in != n_out:
        yield linear(n_in, n_out, places)


def pixel_attention(
    width: int, inner: int, places: int, context: tuple[int, int] | None, reads_pixels: bool
) -> Iterator[Cost]:
    """Yields the costs of an attention of pixels.

    Args:
      width: channels.
      inner: width of all heads together.
      places: pixels of one picture.
      context: width and length of a sequence that is attended to.
      reads_pixels: whether pixels are.
    """
    yield Cost(2 * width)
    yield linear(width, inner, places)
    yield linear(inner, width, places)
    if reads_pixels:
        yield linear(width, 2 * inner, places)
        yield _mixing(places, places, inner)
    if context is not None:
        yield linear(context[0], 2 * inner, context[1])
        yield _mixing(places, context[1], inner)


def _costs(config: UNetConfig, length: int) -> Iterator[Cost]:
    levels, width, places = config.levels, config.width, config.size**2
    yield from _vectors(config)
    yield linear(config.channels + config.image_channels, width, places, window=9)
    read = 2 * width if config.is_efficient else width
    yield Cost(2 * read)
    yield linear(read, config.out_channels, places, window=9)
    if config.is_efficient:
        yield from _efficient(config, length)
        return
    yield from _standard(config, length)
    last = levels[-1]
    for _ in range(2):
        yield from residual_block(last.width, last.width, last.size**2, _time(config, last.width))
    kind = config.middle_attention
    yield from _attention(config, kind, last.width, last.depth, last.size**2, length)


def _standard(config: UNetConfig, length: int) -> Iterator[Cost]:
    levels = config.levels
    n_in, skips = config.width, [config.width]
    for number, level in enumerate(levels):
        yield from _blocks(config, number, [n_in, *[level.width] * (level.blocks - 1)], length)
        n_in = level.width
        skips += [n_in] * (level.blocks + (number + 1 < len(levels)))
        if number + 1 < len(levels):
            yield from _resampling(config, n_in, (level.size // 2) ** 2)
    for number, level in reversed(list(enumerate(levels))):
        reads = [n_in, *[level.width] * level.blocks]
        yield from _blocks(config, number, [one + skips.pop() for one in reads], length)
        n_in = level.width
        if number:
            yield from _resampling(config, n_in, (level.size * 2) ** 2)


def _efficient(config: UNetConfig, length: int) -> Iterator[Cost]:
    for number, level in enumerate(config.levels):
        width, above, alone = level.width, config.widths[number], level.blocks - 1
        yield linear(above, width, level.size**2, window=9)
        yield from _blocks(config, number, [width, *[width] * alone], length)
        yield from _blocks(config, number, [2 * width, *[width] * alone], length)
        yield linear(width, above, (2 * level.size) ** 2, window=9)


def _blocks(config: UNetConfig, number: int, reads: list[int], length: int) -> Iterator[Cost]:
    """Yields the costs of blocks of a level that read so many channels, with their attentions."""
    level = config.levels[number]
    places, width = level.size**2, level.width
    for n_in in reads:
        yield from residual_block(n_in, width, places, _time(config, width))
        yield from _attention(config, level.attention, width, level.depth, places, length)


def _resampling(config: UNetConfig, width: int, places: int) -> Iterator[Cost]:
    if config.resampling == "blocks":
        yield from residual_block(width, width, places, _time(config, width))
    else:
        yield linear(width, width, places, window=9)


def _attention(
    config: UNetConfig, kind: AttentionKind | None, width: int, depth: int, places: int, length: int
) -> Iterator[Cost]:
    if kind is None:
        return
    heads, head_dim = config.heads(width)
    inner = heads * head_dim
    context = None if config.context_dim is None else (config.context_dim, length)
    if kind != "transformer":
        context = None if kind == "self" else context
        yield from pixel_attention(width, inner, places, context, kind != "cross")
        return
    yield Cost(2 * width)
    yield linear(width, inner, places)
    yield linear(inner, width, places)
    for _ in range(depth):
        yield Cost(4 * inner)
        yield linear(inner, 3 * inner, places, bias=False)
        yield linear(inner, inner, places)
        yield _mixing(places, places, inner)
        if context is not None:
            yield Cost(2 * inner)
            yield linear(inner, inner, places, bias=False)
            yield linear(context[0], 2 * inner, length, bias=False)
            yield linear(inner, inner, places)
            yield _mixing(places, length, inner)
        yield linear(inner, 8 * inner, places)
        yield linear(4 * inner, inner, places)


def _vectors(config: UNetConfig) -> Iterator[Cost]:
    """Yields the costs of the embeddings, and of the norm of the sequence."""
    width, pooled = config.time_dim, config.pooled_dim or 0
    for _ in range(1 + config.image_time):
        yield linear(config.width, width, 1)
        yield linear(width, width, 1)
    if pooled and config.pooled_join != "add":
        yield linear(pooled, width, 1)
    if pooled and config.pooled_join == "layers":
        yield linear(width, width, 1)
    if config.pooled_tokens:
        yield linear(pooled, config.pooled_tokens * (config.context_dim or 0), 1)
    if config.context_norm:
        yield Cost(2 * (config.context_dim or 0))


def _time(config: UNetConfig, width: int) -> tuple[int, int]:
    return config.time_dim, (2 if config.scale_shift else 1) * width


def _mixing(queries: int, keys: int, inner: int) -> Cost:
    """Returns the cost of logits and of the mixture of the values."""
    return Cost(0, 4 * queries * keys * inner)
