"""The configuration of Whisper's audio encoder: what it reads, and its stack."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.stack_config import StackConfig
from jaxgen.ops.attention.masks import looks_ahead

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.audio import AudioEncoder

WIDTH = 3
"""Frames that a convolution sees at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """What an audio encoder reads, and its stack.

    A convolution over three frames, another that takes every second place, each with a GELU, and a
    table of sines and cosines, which is kept with the parameters and not trained.

    Attributes:
      stack: the blocks, whose layers must be bidirectional.
      num_frames: of a sound, an even number; Whisper's 30 seconds are 3000.
      bands: numbers of a frame.
    """

    stack: StackConfig
    num_frames: PositiveInt = 3000
    bands: PositiveInt = 80

    def __post_init__(self):
        check_domains(self, "audio_encoder")
        if self.num_frames % 2 or self.stack.embed_dim % 2:
            raise ConfigError(
                f"audio_encoder.num_frames={self.num_frames} and the width of its stack, "
                f"{self.stack.embed_dim}, must be even."
            )
        if not all(looks_ahead(layer.mask) for layer in self.stack.kinds_of_layers):
            raise ConfigError(
                "the layers of audio_encoder.stack are causal; set layer.mask=(@bidirectional(),)."
            )
        if self.stack.moe is not None:
            raise ConfigError(
                "audio_encoder.stack.moe has losses of its router, which no objective adds for an "
                "encoder of media; leave it out."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Frames and bands of a sound."""
        return self.num_frames, self.bands

    @property
    def grid(self) -> tuple[int, int]:
        """Hidden states of a sound, one below the other."""
        return self.num_tokens, 1

    @property
    def num_tokens(self) -> int:
        """Hidden states of a sound."""
        return self.num_frames // 2

    @property
    def width(self) -> int:
        """Width of a hidden state."""
        return self.stack.embed_dim

    @property
    def num_layers(self) -> int:
        """Blocks of the stack."""
        return self.stack.num_layers

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use."""
        return self.stack.differs_in_training

    def make(self, rngs: nnx.Rngs) -> AudioEncoder:
        """Returns the encoder."""
        from jaxgen.models.audio import AudioEncoder

        return AudioEncoder(self, rngs)

    def size(self) -> tuple[int, int]:
        """Returns the exact number of parameters, and that of the position table among them."""
        from jaxgen.models.counting import count_stack

        embed, positions = self.width, self.num_tokens * self.width
        convolutions = WIDTH * (self.bands + embed) * embed + 2 * embed
        return convolutions + positions + count_stack(self.stack), positions

    def forward_flops(self, num_layers: int | None = None) -> int:
        """Returns the operations of the matrix products for a sound, of so many blocks or all."""
        from jaxgen.models.counting import stack_flops

        stack, tokens = self.stack, self.num_tokens
        if num_layers is not None:
            stack = dataclasses.replace(stack, num_layers=num_layers)
        first = 2 * self.num_frames * WIDTH * self.bands * self.width
        second = 2 * tokens * WIDTH * self.width**2
        return first + second + stack_flops(stack, tokens)
