"""Autoencoders of pictures and sounds: an encoder, codes, and a decoder (2102.12092, A.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.media_batch import MediaBatch
from jaxgen.models.autoencoder_config import AutoencoderConfig
from jaxgen.models.base import ModelConfig, abstract_model
from jaxgen.models.bottleneck import Quantised
from jaxgen.models.convolutions import Convolution, Matrix, Tower
from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
from jaxgen.models.parameters import is_variable, path_name
from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
from jaxgen.ops.convolution import into_patches, max_pool, out_of_patches, overlap_add, repeat
from jaxgen.ops.logit_laplace import into_margin, out_of_margin
from jaxgen.ops.patches import reshape_rows
from jaxgen.sharding.layout import Layout, under_layout, using


class AutoencoderOutput(NamedTuple):
    """What an autoencoder makes of a batch; all but the codes float32.

    Attributes:
      values: [batch, *shape], the row: numbers between 0 and 1, or samples.
      made: [batch, *shape], the row from its codes.
      targets: [batch, *shape], the row as the loss compares it with `centre`.
      centre: [batch, *shape], the decoder's number for each of them.
      log_scale: [batch, *shape], the logarithm of the scale of its distribution, or None.
      codes: [batch, codes] int32, or None.
      kl: [batch], the divergence of the codes' distributions from uniform ones, or of latents from
        the standard normal one, or None.
      latents: [batch, height, width, channels], the means of what is drawn, or None.
    """

    values: Any
    made: Any
    targets: Any
    centre: Any
    log_scale: Any
    codes: Any
    kl: Any
    latents: Any = None


class Autoencoder(nnx.Module):
    """A root model: it owns the layout. Rows are whole on each device.

    What is read and written at full resolution is of `ImageAutoencoder` and `SoundAutoencoder`.
    """

    def __init__(self, config: AutoencoderConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout.of_whole_rows("the rows of an autoencoder are")
        widths = [config.hidden * width for width in config.groups]
        bottleneck, per_place = config.bottleneck, config.codes_per_place
        with using(self.layout):
            self.first = Convolution(config.first_size, widths[0], rngs)
            self.encoder = Tower(
                config, [widths[0], *widths], config.encoder_kernels, max_pool, rngs
            )
            self.to_codes = Matrix(widths[-1], per_place * bottleneck.input_width, rngs)
            read = per_place * bottleneck.output_width
            axes = [1] * (len(config.first_size) - 1)
            self.of_codes = Convolution((*axes, read), config.decoder_input, rngs)
            there = [config.decoder_input, *reversed(widths)]
            self.decoder = Tower(config, there, config.decoder_kernels, repeat, rngs)
            self.last = Matrix(widths[0], config.output_width, rngs)

    def __call__(
        self, batch: MediaBatch, key: jax.Array | None = None, temperature: Any = 1.0
    ) -> AutoencoderOutput:
        """Returns rows as they come back from their codes.

        Args:
          batch: the rows.
          key: of a training pass.
          temperature: of codes that are drawn, in a training pass.
        """
        values = self._numbers(batch.values)
        targets = self._targets(values)
        quantised = self._quantised(targets, key, temperature)
        centre, log_scale = self._decoded(quantised.vectors)
        kl = quantised.kl if quantised.kl is None else jnp.sum(_rows(quantised.kl), axis=1)
        return AutoencoderOutput(
            values,
            self._values_of(centre),
            targets,
            centre,
            log_scale,
            _rows(quantised.codes),
            kl,
        )

    def encode(self, values: jax.Array) -> jax.Array:
        """Returns the codes [batch, codes] int32 of rows, by time, row and column."""
        return _rows(self._quantised(self._targets(self._numbers(values)), None, 1.0).codes)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Returns the rows that codes [batch, codes] stand for: numbers from 0 to 1, or samples."""
        config = self.config
        codes = codes.reshape(len(codes), *self._places(), config.codes_per_place)
        return self._values_of(self._decoded(config.bottleneck.vectors_of(codes))[0])

    @under_layout
    def _quantised(self, targets: jax.Array, key: jax.Array | None, temperature: Any) -> Quantised:
        config = self.config
        x = self._read(targets.astype(config.compute_dtype))
        x = self.to_codes(jax.nn.relu(self.encoder(x))).astype(jnp.float32)
        width = config.bottleneck.input_width
        x = reshape_rows(x, *x.shape[:-1], config.codes_per_place, width)
        return config.bottleneck.quantise(x, key, temperature)

    @under_layout
    def _decoded(self, vectors: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns the decoder's numbers, and the logarithm of their scales or None."""
        width = vectors.shape[-2] * vectors.shape[-1]
        x = reshape_rows(vectors, *vectors.shape[:-2], width).astype(self.config.compute_dtype)
        return self._written(self.last(jax.nn.relu(self.decoder(self.of_codes(x)))))

    def _places(self) -> tuple[int, ...]:
        """Returns the lengths of the encoder's last resolution; -1 for one that varies."""
        raise NotImplementedError

    def _numbers(self, values: jax.Array) -> jax.Array:
        """Returns rows as float32: numbers between 0 and 1, or samples."""
        raise NotImplementedError

    def _targets(self, values: jax.Array) -> jax.Array:
        """Returns them as the encoder reads them and the loss compares them."""
        raise NotImplementedError

    def _values_of(self, centre: jax.Array) -> jax.Array:
        """Returns what the decoder's numbers stand for: numbers from 0 to 1, or samples."""
        raise NotImplementedError

    def _read(self, x: jax.Array) -> jax.Array:
        """Returns the first convolution of the targets."""
        raise NotImplementedError

    def _written(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns the last matrix's numbers as rows, and logarithms of scales or None; float32."""
        raise NotImplementedError


class ImageAutoencoder(Autoencoder):
    """An autoencoder of pictures."""

    config: ImageAutoencoderConfig

    def _places(self) -> tuple[int, ...]:
        return self.config.grid[1:]

    def _numbers(self, values: jax.Array) -> jax.Array:
        return values.astype(jnp.float32) / 255

    def _targets(self, values: jax.Array) -> jax.Array:
        return into_margin(values, self.config.margin)

    def _values_of(self, centre: jax.Array) -> jax.Array:
        mean = jax.nn.sigmoid(centre) if self.config.output == "logit_laplace" else centre
        return out_of_margin(mean, self.config.margin)

    def _read(self, x: jax.Array) -> jax.Array:
        return self.first(into_patches(x, self.config.patch))

    def _written(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        maps = jnp.split(
            x.astype(jnp.float32), 2 if self.config.output == "logit_laplace" else 1, axis=-1
        )
        pictures = [out_of_patches(one, self.config.patch) for one in maps]
        return pictures[0], pictures[1] if len(pictures) > 1 else None


class SoundAutoencoder(Autoencoder):
    """An autoencoder of sounds of whole frames."""

    config: SoundAutoencoderConfig

    def _places(self) -> tuple[int, ...]:
        return (-1,)

    def _numbers(self, values: jax.Array) -> jax.Array:
        return values.astype(jnp.float32)

    def _targets(self, values: jax.Array) -> jax.Array:
        return values

    def _values_of(self, centre: jax.Array) -> jax.Array:
        return centre

    def _read(self, x: jax.Array) -> jax.Array:
        side = (self.config.window - self.config.hop) // 2
        return self.first(jnp.pad(x, ((0, 0), (side, side)))[..., None], self.config.hop, "VALID")

    def _written(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        side = (self.config.window - self.config.hop) // 2
        sound = overlap_add(x.astype(jnp.float32), self.config.hop)
        return sound[:, side : sound.shape[1] - side], None


def restored(config: AutoencoderConfig, arrays: Mapping[str, np.ndarray]) -> Autoencoder:
    """Returns an autoencoder of parameters by name; see `AutoencoderConfig.restored`."""
    return with_arrays(config, arrays, config.NAME)


def with_arrays(config: ModelConfig, arrays: Mapping[str, np.ndarray], kind: str) -> Any:
    """Returns a configuration's model of parameters by name, on one device.

    Raises:
      ConfigError: if a parameter is missing, or has another shape; it names the kind of model.
    """

    def of_name(path: Any, parameter: nnx.Variable) -> nnx.Variable:
        name = path_name(path)
        found = arrays.get(name)
        if found is None or found.shape != parameter.shape or found.dtype != np.float32:
            there = "missing" if found is None else f"{found.dtype} {found.shape}"
            raise ConfigError(
                f"the parameter {name} is {there}, not float32 {parameter.shape}: it is of another "
                f"{kind}."
            )
        return parameter.replace(jnp.asarray(found))

    model = abstract_model(config)
    return jax.tree_util.tree_map_with_path(of_name, model, is_leaf=is_variable)


def _rows(x: jax.Array) -> jax.Array:
    """Returns [batch, ...] as [batch, all]."""
    return reshape_rows(x, x.shape[0], math.prod(x.shape[1:]))
