"""The KL autoencoder; see `kl_autoencoder_config.KlAutoencoderConfig`."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch
from jaxgen.models.autoencoder import AutoencoderOutput
from jaxgen.models.convolutions import Convolution
from jaxgen.models.diffusion.discriminator import Discriminator
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
from jaxgen.models.diffusion.unet_attention import PixelAttention
from jaxgen.models.diffusion.unet_blocks import Doubling, GroupNorm, Halving, ResidualBlock
from jaxgen.ops.pixels import as_numbers
from jaxgen.ops.rematerialisation import rematerialised
from jaxgen.sharding.layout import Layout, current_layout, spec, under_layout, using
from jaxgen.sharding.rules import mesh_is_set, reshard

EPSILON = 1e-6
LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -30.0, 20.0


class KlAutoencoder(nnx.Module):
    """A root model: it owns the layout. Pictures are whole on each device."""

    def __init__(self, config: KlAutoencoderConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout.of_whole_rows("pictures are")
        latent = config.latent_channels

        def alone(channels: int) -> Convolution | None:
            if not config.moments_convolution:
                return None
            return Convolution((1, 1, channels), channels, rngs, split=None)

        with using(self.layout):
            self.encoder = Encoder(config, rngs)
            self.moments = alone(2 * latent)
            self.of_latents = alone(latent)
            self.decoder = Decoder(config, rngs)
            self.discriminator = (
                None
                if config.discriminator is None
                else Discriminator(config.channels, config.discriminator, rngs)
            )

    def __call__(
        self, batch: MediaBatch, key: jax.Array | None = None, temperature: float | jax.Array = 1.0
    ) -> AutoencoderOutput:
        """Returns pictures as they come back from their latents.

        Args:
          batch: the pictures.
          key: of a training pass, which draws the latents; None: the likeliest are taken.
          temperature: what the standard deviation of the draws is multiplied by.
        """
        pictures = reshard(jnp.asarray(batch.values), self._rows())
        targets = as_numbers(pictures)
        mean, log_variance = self.encode_moments(targets)
        made = self.decode(drawn(mean, log_variance, key, temperature))
        kl = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance)
        return AutoencoderOutput(
            values=(targets + 1) / 2,
            made=jnp.clip((made + 1) / 2, 0, 1),
            targets=targets,
            centre=made,
            log_scale=None,
            codes=None,
            kl=jnp.sum(kl, axis=(1, 2, 3)),
            latents=mean,
        )

    @under_layout
    def encode_moments(self, pictures: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the means and logarithms of variances of latents, before scale and shift.

        Args:
          pictures: [batch, size, size, channels], from -1 to 1.

        Returns:
          Two of [batch, latent_size, latent_size, latent_channels] float32.
        """
        x = self.encoder(pictures.astype(self.config.compute_dtype))
        x = x if self.moments is None else self.moments(x)
        mean, log_variance = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(log_variance, LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)

    @under_layout
    def decode(self, latents: jax.Array) -> jax.Array:
        """Returns pictures, float32 from about -1 to 1, of latents before scale and shift."""
        x = latents.astype(self.config.compute_dtype)
        x = x if self.of_latents is None else self.of_latents(x)
        return self.decoder(x).astype(jnp.float32)

    def to_latents(self, pictures: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns latents whose numbers are of size 1, of pictures from -1 to 1.

        They are drawn with a key, and the likeliest without.
        """
        mean, log_variance = self.encode_moments(pictures)
        latents = drawn(mean, log_variance, key)
        return (latents - self.config.latent_shift) * self.config.latent_scale

    def to_pictures(self, latents: jax.Array) -> jax.Array:
        """Returns pictures from -1 to 1 of such latents."""
        config = self.config
        made = self.decode(latents / config.latent_scale + config.latent_shift)
        return jnp.clip(made, -1, 1)

    @under_layout
    def judge(self, pictures: jax.Array, is_fixed: bool = False) -> jax.Array:
        """Returns the discriminator's numbers [batch, rows, columns] for patches of pictures.

        Args:
          pictures: from -1 to 1.
          is_fixed: whether gradients go to the pictures alone, and not to the discriminator.

        Raises:
          ConfigError: if the model has none.
        """
        found = self.discriminator
        if found is None:
            raise ConfigError(
                "reconstruction_loss.realism has an adversarial_weight, and the model no "
                "discriminator; set kl_autoencoder.discriminator=64, or the weight to 0."
            )
        found = jax.tree.map(jax.lax.stop_gradient, found) if is_fixed else found
        return found(pictures)

    @under_layout
    def _rows(self) -> jax.sharding.PartitionSpec:
        return spec("batch", None, None, None)


class Encoder(nnx.Module):
    """Pictures to moments of latents."""

    def __init__(self, config: KlAutoencoderConfig, rngs: nnx.Rngs):
        widths, latent = config.widths, config.latent_channels
        self.first = Convolution((3, 3, config.channels), widths[0], rngs)
        levels = []
        for number, (n_in, width) in enumerate(itertools.pairwise((widths[0], *widths))):
            reads = [n_in, *[width] * (config.blocks - 1)]
            is_last = number + 1 == len(widths)
            after = None if is_last else Halving(width, width, rngs, zeros_before=0)
            levels.append(Blocks(config, reads, width, after, rngs))
        self.levels = nnx.List(levels)
        self.middle = Between(config, rngs)
        self.norm = GroupNorm(widths[-1], config.norm_groups, EPSILON, rngs)
        self.last = Convolution((3, 3, widths[-1]), 2 * latent, rngs, split="in")

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.first(x)
        for level in self.levels:
            x = level(x)
        return self.last(jax.nn.silu(self.norm(self.middle(x))))


class Decoder(nnx.Module):
    """Latents to pictures."""

    def __init__(self, config: KlAutoencoderConfig, rngs: nnx.Rngs):
        widths = tuple(reversed(config.widths))
        self.first = Convolution((3, 3, config.latent_channels), widths[0], rngs)
        self.middle = Between(config, rngs)
        levels = []
        for number, (n_in, width) in enumerate(itertools.pairwise((widths[0], *widths))):
            reads = [n_in, *[width] * config.blocks]
            after = None if number + 1 == len(widths) else Doubling(width, width, rngs)
            levels.append(Blocks(config, reads, width, after, rngs))
        self.levels = nnx.List(levels)
        self.norm = GroupNorm(widths[-1], config.norm_groups, EPSILON, rngs)
        self.last = Convolution((3, 3, widths[-1]), config.channels, rngs, split="in")

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.middle(self.first(x))
        for level in self.levels:
            x = level(x)
        return self.last(jax.nn.silu(self.norm(x)))


class Blocks(nnx.Module):
    """The residual blocks of a level, and a change of resolution."""

    def __init__(
        self,
        config: KlAutoencoderConfig,
        reads: list[int],
        width: int,
        after: Halving | Doubling | None,
        rngs: nnx.Rngs,
    ):
        self.blocks = nnx.List([_block(config, n_in, width, rngs) for n_in in reads])
        self.after = after

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = _again(block)(x)
        return x if self.after is None else self.after(x)


class Between(nnx.Module):
    """Two residual blocks at the lowest resolution, with an attention of one head between them."""

    def __init__(self, config: KlAutoencoderConfig, rngs: nnx.Rngs):
        width = config.widths[-1]
        self.first = _block(config, width, width, rngs)
        self.attention = (
            PixelAttention(width, (1, width), rngs, groups=config.norm_groups, epsilon=EPSILON)
            if config.middle_attention
            else None
        )
        self.second = _block(config, width, width, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = _again(self.first)(x)
        x = x if self.attention is None else _again(self.attention)(x)
        return _again(self.second)(x)


def drawn(
    mean: jax.Array,
    log_variance: jax.Array,
    key: jax.Array | None,
    temperature: float | jax.Array = 1.0,
) -> jax.Array:
    """Returns latents from their distributions, or without a key their means."""
    if key is None:
        return mean
    layout = jax.typeof(mean).sharding if mesh_is_set() else None
    noise = jax.random.normal(key, mean.shape, jnp.float32, out_sharding=layout)
    return mean + temperature * jnp.exp(0.5 * log_variance) * noise


def _again(module):
    """Returns a call of a module that backward passes may compute again, as the layout says."""
    layout = current_layout()
    call = rematerialised(
        lambda module, x: module(x), layout.remat, layout.remat_saved, layout.remat_offloaded
    )
    return lambda x: call(module, x)


def _block(config: KlAutoencoderConfig, n_in: int, n_out: int, rngs: nnx.Rngs) -> ResidualBlock:
    return ResidualBlock(n_in, n_out, rngs, groups=config.norm_groups, epsilon=EPSILON)
