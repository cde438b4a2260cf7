"""The model of diffusion: a root, which owns the layout; see `models.diffusion.config`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import ConfigError
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.prompts import Prompts, pictures_of, prompts_of
from jaxgen.models.parameters import freeze
from jaxgen.ops.dropout import split
from jaxgen.ops.pixels import as_numbers
from jaxgen.ops.resizing import resize
from jaxgen.sharding.layout import Layout, spec, under_layout, using
from jaxgen.sharding.rules import mesh_is_set, reshard


class DiffusionModel(nnx.Module):
    """A denoiser with its conditioner and latents. Pictures are whole on each device."""

    def __init__(self, config: DiffusionConfig, rngs: nnx.Rngs, layout: Layout = Layout()):
        self.config = config
        self.layout = layout.of_whole_rows("pictures are")
        with using(self.layout):
            self.denoiser = config.denoiser.build_denoiser(rngs)
        told, latents = config.conditioner, config.latents
        self.conditioner = None if told is None else told.build(rngs, self.layout)
        self.latents = None if latents is None else freeze(latents.build(rngs, self.layout))

    @under_layout
    def clean(self, batch: Any, key: jax.Array | None = None) -> jax.Array:
        """Returns what is corrupted, of a batch: pictures from -1 to 1, or latents; float32.

        Args:
          batch: pairs or pictures, uint8.
          key: of latents that are drawn; None: the likeliest.
        """
        return self.encode(_numbers(pictures_of(batch)), key)

    @under_layout
    def encode(self, pictures: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns pictures from -1 to 1 as the denoiser has them."""
        if self.latents is None:
            return pictures
        return self.latents.to_latents(pictures, key)

    @under_layout
    def decode(self, x: jax.Array) -> jax.Array:
        """Returns pictures from -1 to 1 of what the denoiser makes; a prior's vectors stay."""
        to_pictures = getattr(self.latents, "to_pictures", None)
        return x if to_pictures is None else to_pictures(x)

    @under_layout
    def predict(
        self, x: jax.Array, time: jax.Array, batch: Any, key: jax.Array | None = None
    ) -> jax.Array:
        """Returns the denoiser's output for noisy pictures of a batch.

        Args:
          x: [batch, size, size, channels].
          time: [batch], as the network reads it.
          batch: what they are of: prompts are read of it, and dropped in a training pass.
          key: of a training pass; None: nothing is dropped.
        """
        drop_key, read_key, low_key, network_key = split(key, 4)
        conditioning = Conditioning()
        if self.conditioner is not None:
            keep = self._kept(x.shape[0], drop_key)
            prompts: Any = prompts_of(batch)
            conditioning = self.conditioner(_on_rows(prompts), keep, read_key)
        if self.config.upsampling is not None:
            size = self.config.upsampling.low_size
            low = resize(self.encode(_numbers(pictures_of(batch))), size)
            noise = (None, None) if low_key is None else self._low_noise(low, low_key)
            conditioning = self.with_low(conditioning, low, *noise)
        return self.denoiser(x, time, conditioning, network_key)

    @under_layout
    def condition(self, prompts: Prompts | None, keeps: bool = True) -> Conditioning:
        """Returns what the denoiser is told of prompts in use.

        Args:
          prompts: None for a model without a conditioner.
          keeps: False: what it is told where prompts are dropped, for guidance.

        Raises:
          ConfigError: if the model reads prompts and there are none, or the reverse.
        """
        if (prompts is None) != (self.conditioner is None):
            has = "reads no prompts" if self.conditioner is None else "needs prompts"
            raise ConfigError(f"this model of diffusion {has}; see diffusion.conditioner.")
        if self.conditioner is None or prompts is None:
            return Conditioning()
        keep = jnp.full_like(self._kept(prompts.tokens.shape[0], None), keeps)
        return self.conditioner(_on_rows(prompts), keep, None)

    @under_layout
    def with_low(
        self, conditioning: Conditioning, low: jax.Array, level: Any = None, noise: Any = None
    ) -> Conditioning:
        """Returns what an upsampler is told, with the smaller picture.

        Args:
          conditioning: what it is told beside.
          low: [batch, low_size, low_size, channels], from -1 to 1.
          level: [batch], of the noise on it, from 0 to 1; None: there is none.
          noise: standard normals of the larger size, where there is a level.

        Raises:
          ConfigError: if the model is no upsampler.
        """
        if self.config.upsampling is None:
            raise ConfigError("this model of diffusion is no upsampler; see diffusion.upsampling.")
        image = resize(low, self.config.denoiser.size)
        if level is None:
            level = jnp.zeros(low.shape[0])
        else:
            angle = (level * (math.pi / 2))[:, None, None, None]
            image = jnp.cos(angle) * image + jnp.sin(angle) * noise
        time = reshard(level * 1000, spec("batch"))
        return dataclasses.replace(conditioning, image=image, time=time)

    @under_layout
    def denoise(self, x: jax.Array, time: jax.Array, conditioning: Conditioning) -> jax.Array:
        """Returns the denoiser's output in use; see `models.diffusion.base.Denoiser`."""
        return self.denoiser(x, time, conditioning)

    def _low_noise(self, low: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the level of the noise on each smaller picture in training, and the noise."""
        upsampling = self.config.upsampling
        assert upsampling is not None
        level_key, noise_key = jax.random.split(key)
        size = self.config.denoiser.size
        rows = spec("batch", None, None, None) if mesh_is_set() else None
        layout = spec("batch") if mesh_is_set() else None
        level = jax.random.uniform(level_key, low.shape[:1], out_sharding=layout)
        shape = (low.shape[0], size, size, low.shape[-1])
        noise = jax.random.normal(noise_key, shape, out_sharding=rows)
        return level * upsampling.most_noise, noise

    def _kept(self, rows: int, key: jax.Array | None) -> jax.Array:
        """Returns which prompts are kept, bool [batch], or [parts, batch]."""
        told = self.config.conditioner
        assert told is not None
        drops = told.drops
        several = isinstance(drops, tuple)
        shape = (len(drops), rows) if several else (rows,)
        axes = spec(None, "batch") if several else spec("batch")
        if key is None:
            return reshard(jnp.ones(shape, bool), axes)
        layout = axes if mesh_is_set() else None
        uniform = jax.random.uniform(key, shape, out_sharding=layout)
        rates = jnp.asarray(drops)[:, None] if several else drops
        return uniform >= rates


def _numbers(pictures: jax.Array) -> jax.Array:
    """Returns uint8 pictures as float32 from -1 to 1, split over devices by rows."""
    return as_numbers(reshard(jnp.asarray(pictures), spec("batch", None, None, None)))


def _on_rows(prompts: Prompts) -> Prompts:
    """Returns prompts split over devices by rows."""

    def split_rows(array: Any) -> jax.Array:
        return reshard(jnp.asarray(array), spec("batch", *[None] * (array.ndim - 1)))

    return jax.tree.map(split_rows, prompts)
