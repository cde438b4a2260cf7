"""The configuration of unCLIP's diffusion prior."""

from __future__ import annotations

import dataclasses

from flax import nnx

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.counting import count_stack, stack_flops
from jaxgen.models.diffusion.base import Denoiser
from jaxgen.models.diffusion.embedders import count_two_layers
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import looks_ahead

AFTER_TEXT = 4
"""Tokens after the text: its vector, the time, the noisy vector, and the one that is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """A causal transformer from a caption to its picture's vector (unCLIP, 2204.06125, 2.2).

    It reads the caption's states, the caption's vector, the time, the noisy vector and a learned
    token, whose hidden state becomes the prediction. To what trains and samples it, a vector is a
    picture of one pixel.

    Attributes:
      stack: the blocks, whose layers must be causal and without rotary positions.
      channels: width of a picture's vector.
      context_dim: width of the caption's states.
      pooled_dim: width of the caption's vector.
      max_length: the most states of a caption, each with a learned position.
      statistics: whether there are a mean and a standard deviation of vectors, taken out of them
        before (as in released checkpoints); they are frozen, and `Prior.embeddings` puts them back.
    """

    stack: StackConfig
    channels: PositiveInt
    context_dim: PositiveInt
    pooled_dim: PositiveInt
    max_length: PositiveInt = 77
    statistics: bool = False

    size = 1
    image_channels = 0

    def __post_init__(self):
        check_domains(self, "prior")
        layers = self.stack.kinds_of_layers
        if any(looks_ahead(layer.mask) or layer.rope for layer in layers):
            raise ConfigError(
                "prior.stack has layers that look ahead or turn by position; a prior is causal and "
                "has learned positions: leave layer.mask out and set layer.rope=None."
            )
        if self.stack.moe is not None or self.stack.parametrization is not None:
            raise ConfigError("prior.stack needs moe=None and parametrization=None.")

    @property
    def out_channels(self) -> int:
        """Channels of the prediction."""
        return self.channels

    @property
    def compute_dtype(self) -> str:
        """The dtype of activations and products."""
        return self.stack.compute_dtype

    def build_denoiser(self, rngs: nnx.Rngs) -> Denoiser:
        """Returns the network, made under the layout in force."""
        from jaxgen.models.diffusion.prior import Prior

        return Prior(self, rngs)

    def count_denoiser(self) -> ParameterCount:
        """Returns the exact numbers of its parameters."""
        embed = self.stack.embed_dim
        positions = (self.max_length + AFTER_TEXT) * embed
        total = positions + embed + count_stack(self.stack) + count_two_layers(embed, embed)
        total += (self.channels + self.context_dim + self.pooled_dim + 3) * embed
        total += (embed + 1 + 2 * self.statistics) * self.channels
        return ParameterCount(total=total, active=total, embedding=positions)

    def picture_flops(self, context_length: int) -> int:
        """Returns the FLOPs of one forward pass for one vector and a caption of that length."""
        embed = self.stack.embed_dim
        flops = stack_flops(self.stack, context_length + AFTER_TEXT)
        once = context_length * self.context_dim + self.pooled_dim + 2 * self.channels + 2 * embed
        return flops + 2 * once * embed
