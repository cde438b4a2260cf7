"""Closed forms for the parameters and operations of a KL autoencoder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from jaxgen.models.diffusion.discriminator import discriminator_widths
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
from jaxgen.models.diffusion.unet_counting import Cost, linear, pixel_attention, residual_block


def count_kl_autoencoder(config: KlAutoencoderConfig) -> tuple[int, int]:
    """Returns the exact numbers of parameters, without the discriminator's, and of those."""
    parts = (_encoder(config), _decoder(config), _discriminator(config))
    encoder, decoder, discriminator = (sum(one.parameters for one in part) for part in parts)
    return encoder + decoder, discriminator


def kl_autoencoder_flops(config: KlAutoencoderConfig) -> tuple[int, int]:
    """Returns the operations of the encoder and of the decoder for one picture."""
    encoder, decoder = (sum(one.flops for one in part(config)) for part in (_encoder, _decoder))
    return encoder, decoder


def _encoder(config: KlAutoencoderConfig) -> Iterator[Cost]:
    widths, places = config.widths, config.size**2
    yield linear(config.channels, widths[0], places, window=9)
    for number, (n_in, width) in enumerate(itertools.pairwise((widths[0], *widths))):
        for block in range(config.blocks):
            yield from residual_block(width if block else n_in, width, places)
        if number + 1 < len(widths):
            places //= 4
            yield linear(width, width, places, window=9)
    yield from _middle(config)
    yield from _ends(widths[-1], 2 * config.latent_channels, places)
    yield from _alone(config, 2 * config.latent_channels)


def _decoder(config: KlAutoencoderConfig) -> Iterator[Cost]:
    widths, places = tuple(reversed(config.widths)), config.latent_size**2
    yield from _alone(config, config.latent_channels)
    yield linear(config.latent_channels, widths[0], places, window=9)
    yield from _middle(config)
    for number, (n_in, width) in enumerate(itertools.pairwise((widths[0], *widths))):
        for block in range(config.blocks + 1):
            yield from residual_block(width if block else n_in, width, places)
        if number + 1 < len(widths):
            places *= 4
            yield linear(width, width, places, window=9)
    yield from _ends(widths[-1], config.channels, places)


def _middle(config: KlAutoencoderConfig) -> Iterator[Cost]:
    width, places = config.widths[-1], config.latent_size**2
    for _ in range(2):
        yield from residual_block(width, width, places)
    if config.middle_attention:
        yield from pixel_attention(width, width, places, None, reads_pixels=True)


def _ends(n_in: int, n_out: int, places: int) -> Iterator[Cost]:
    yield Cost(2 * n_in)
    yield linear(n_in, n_out, places, window=9)


def _alone(config: KlAutoencoderConfig, channels: int) -> Iterator[Cost]:
    if config.moments_convolution:
        yield linear(channels, channels, config.latent_size**2)


def _discriminator(config: KlAutoencoderConfig) -> Iterator[Cost]:
    if config.discriminator is None:
        return
    widths = discriminator_widths(config.channels, config.discriminator)
    for number, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        yield linear(n_in, n_out, 0, window=16)
        yield Cost(2 * n_out if number else 0)
    yield linear(widths[-1], 1, 0, window=9)
