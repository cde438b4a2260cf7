"""The configuration of a diffusion transformer."""

from __future__ import annotations

import dataclasses
from typing import Literal

from flax import nnx

from jaxgen.domains import NonNegativeInt, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.diffusion.base import Denoiser
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import looks_ahead


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """A diffusion transformer: what it reads, its stack, and how patches become a prediction.

    Every block is modulated by a vector: the embedding of time, and what joins it (adaLN-Zero).

    Attributes:
      stack: the blocks, whose layers must be bidirectional.
      size: rows and columns of x.
      channels: of x.
      patch_size: rows and columns of a patch, which divide the picture's.
      learned_variance: whether the prediction has a variance for each channel beside it (improved
        DDPM, 2102.09672).
      image_channels: of a picture that is read beside x, with a time of its own; 0: none.
      context_dim: width of a sequence that every block attends to (PixArt); None: none.
      pooled_dim: width of a vector that joins the embedding of time; None: none.
      pooled_layers: whether it goes through two layers first; otherwise it is as wide as the
        stream.
      bottleneck_dim: width of a first projection of patches, without a bias (JiT); None: one
        projection alone.
      positions: "sincos", fixed sines and cosines of rows and columns; None: none are added (rotary
        ones are of `stack.layers`).
      frequency_shift: see `time_waves`.
      feed_forward_epsilon: of the norm before the feed-forward; None: stack.norm_epsilon.
    """

    stack: StackConfig
    size: PositiveInt = 32
    channels: PositiveInt = 4
    patch_size: PositiveInt = 2
    learned_variance: bool = False
    image_channels: NonNegativeInt = 0
    context_dim: PositiveInt | None = None
    pooled_dim: PositiveInt | None = None
    pooled_layers: bool = False
    bottleneck_dim: PositiveInt | None = None
    positions: Literal["sincos"] | None = "sincos"
    frequency_shift: Literal[0, 1] = 0
    feed_forward_epsilon: PositiveFloat | None = None

    def __post_init__(self):
        check_domains(self, "dit")
        if self.size % self.patch_size:
            raise ConfigError(
                f"dit.size={self.size} is not divided by dit.patch_size={self.patch_size}."
            )
        check_stack(self.stack, "dit")
        if self.positions == "sincos" and self.stack.embed_dim % 4:
            raise ConfigError(
                f"dit.positions='sincos' needs a width that 4 divides, and the stack's is "
                f"embed_dim={self.stack.embed_dim}."
            )
        if self.pooled_layers and self.pooled_dim is None:
            raise ConfigError("dit.pooled_layers=True needs dit.pooled_dim.")
        if self.pooled_dim not in (None, self.stack.embed_dim) and not self.pooled_layers:
            raise ConfigError(
                f"dit.pooled_dim={self.pooled_dim} is added to a vector as wide as the stream, "
                f"embed_dim={self.stack.embed_dim}; give that width, or set "
                "dit.pooled_layers=True."
            )

    @property
    def out_channels(self) -> int:
        """Channels of the prediction."""
        return self.channels * (1 + self.learned_variance)

    @property
    def compute_dtype(self) -> str:
        """The dtype of activations and products."""
        return self.stack.compute_dtype

    @property
    def side(self) -> int:
        """Rows and columns of patches."""
        return self.size // self.patch_size

    @property
    def patch_width(self) -> int:
        """Numbers in a patch of what is read."""
        return self.patch_size**2 * (self.channels + self.image_channels)

    def build_denoiser(self, rngs: nnx.Rngs) -> Denoiser:
        """Returns the network, made under the layout in force."""
        from jaxgen.models.diffusion.dit import DiT

        return DiT(self, rngs)

    def count_denoiser(self) -> ParameterCount:
        """Returns the exact numbers of its parameters."""
        from jaxgen.models.diffusion.dit_counting import count_dit

        return count_dit(self)

    def picture_flops(self, context_length: int) -> int:
        """Returns the FLOPs of one forward pass for one picture and a sequence of that length."""
        from jaxgen.models.diffusion.dit_counting import dit_flops

        return dit_flops(self, context_length)


def check_stack(stack: StackConfig, name: str) -> None:
    """Refuses a stack whose blocks cannot be modulated, or do not see all of a picture.

    Raises:
      ConfigError: naming the field.
    """
    if not all(looks_ahead(layer.mask) for layer in stack.kinds_of_layers):
        raise ConfigError(
            f"the layers of {name}.stack are causal, and patches have no order in time; set "
            "layer.mask=(@bidirectional(),)."
        )
    if stack.norm_placement != "pre" or stack.parallel:
        raise ConfigError(
            f"{name}.stack has norm_placement={stack.norm_placement!r}, parallel="
            f"{stack.parallel}; a modulated block normalises before each part, 'pre' and False."
        )
    if stack.moe is not None or stack.parametrization is not None:
        raise ConfigError(f"{name}.stack needs moe=None and parametrization=None.")
