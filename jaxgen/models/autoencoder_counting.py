"""Closed forms for the parameters and operations of an autoencoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from jaxgen.models.autoencoder_config import AutoencoderConfig


def count_autoencoder(config: AutoencoderConfig) -> tuple[int, int]:
    """Returns the exact number of parameters, and a forward pass's operations for one row.

    Operations are those of products and convolutions, whose borders count as if they were whole.
    """
    axes, bottleneck = len(config.first_size) - 1, config.bottleneck
    places = config.max_length // config.codes_per_place
    *sizes, channels = config.first_size
    widths = [config.hidden * width for width in config.groups]
    full = places * config.reduction**axes
    layers = [(math.prod(sizes) * channels, widths[0], full)]
    layers += _blocks(config, [widths[0], *widths], config.encoder_kernels, axes, full, halves=True)
    layers.append((widths[-1], config.codes_per_place * bottleneck.input_width, places))
    read = config.codes_per_place * bottleneck.output_width
    layers.append((read, config.decoder_input, places))
    there = [config.decoder_input, *reversed(widths)]
    layers += _blocks(config, there, config.decoder_kernels, axes, places, halves=False)
    layers.append((widths[0], config.output_width, full))
    total = sum(n_out * (n_in + 1) for n_in, n_out, _ in layers)
    return total, sum(2 * n_in * n_out * count for n_in, n_out, count in layers)


def _blocks(
    config: AutoencoderConfig,
    widths: Sequence[int],
    kernels: Sequence[int],
    axes: int,
    places: int,
    halves: bool,
) -> list[tuple[int, int, int]]:
    """Returns numbers summed over, channels and places of each convolution of a tower's blocks."""
    found = []
    for group, (before, width) in enumerate(itertools.pairwise(widths)):
        if group:
            places = places // 2**axes if halves else places * 2**axes
        for block in range(config.blocks):
            n_in = width if block else before
            if n_in != width:
                found.append((n_in, width, places))
            inner = width // 4
            for at, size in enumerate(kernels):
                n_out = width if at == len(kernels) - 1 else inner
                found.append((size**axes * (inner if at else n_in), n_out, places))
    return found
