"""What a model of diffusion is made of: a denoiser, and what it is told beside the noisy picture.

A denoiser's configuration is a frozen dataclass, bound in gin as `diffusion.denoiser`; the module
that it builds is part of a `DiffusionModel`, which owns the layout.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from flax import nnx

from jaxgen.models.base import ParameterCount


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told; a field is None where it is told nothing of the kind.

    Attributes:
      sequence: [batch, length, context_dim], such as a caption as its encoder reads it.
      mask: [batch, length] bool, which of the sequence is there; None: all.
      pooled: [batch, pooled_dim], such as the whole caption's vector or a class's; it joins the
        embedding of time.
      image: [batch, height, width, image_channels], at the resolution of x, read beside it, such as
        the smaller picture that an upsampler enlarges.
      time: [batch] float32, how noisy `image` was made, as the network reads times.
    """

    sequence: Any = None
    mask: Any = None
    pooled: Any = None
    image: Any = None
    time: Any = None


@runtime_checkable
class DenoiserConfig(Protocol):
    """Describes a network from a noisy picture, or its latents, to a prediction of one shape.

    Attributes:
      size: rows and columns of x.
      channels: of x.
      out_channels: of the prediction: those of x, or twice as many with a learned variance.
      image_channels: of `Conditioning.image`; 0: it reads none.
      context_dim: width of `Conditioning.sequence`; None: it reads none.
      pooled_dim: width of `Conditioning.pooled`; None: it reads none.
      compute_dtype: of activations and products.
    """

    @property
    def size(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def out_channels(self) -> int: ...

    @property
    def image_channels(self) -> int: ...

    @property
    def context_dim(self) -> int | None: ...

    @property
    def pooled_dim(self) -> int | None: ...

    @property
    def compute_dtype(self) -> str: ...

    def build_denoiser(self, rngs: nnx.Rngs) -> Denoiser:
        """Returns the network, made under the layout in force."""
        ...

    def count_denoiser(self) -> ParameterCount:
        """Returns the exact numbers of its parameters, in closed form."""
        ...

    def picture_flops(self, context_length: int) -> int:
        """Returns the FLOPs of one forward pass for one picture and a sequence of that length."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """Predicts, of a noisy picture, what the corruption asks: the noise, the picture, or v."""

    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        conditioning: Conditioning,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prediction, float32 [batch, size, size, out_channels].

        Args:
          x: [batch, size, size, channels] float32.
          time: [batch] float32, as the network reads it: from 0 to 1,000 for most.
          conditioning: what it is told beside.
          key: of a training pass (dropout); None: the network as it is used.
        """
        ...
