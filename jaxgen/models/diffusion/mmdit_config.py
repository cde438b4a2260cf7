"""The configuration of a diffusion transformer of two streams."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from flax import nnx

from jaxgen.domains import NonNegativeInt, PositiveFloat, PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount
from jaxgen.models.diffusion.base import Denoiser
from jaxgen.models.diffusion.dit_config import check_stack
from jaxgen.models.stack_config import StackConfig

PLAIN = (
    "last_layers",
    "latent",
    "parallel",
    "residual_factor",
    "position_bias",
    "attention_sinks",
    "dropout",
    "attention_dropout",
    "feed_forward_dropout",
)
"""Fields of a stack that blocks of two streams do not have: they are as they begin."""


@dataclasses.dataclass(frozen=True)
class JointKind:
    """A kind of block of two streams.

    Attributes:
      is_dual: whether the picture also attends to itself alone, beside the joint attention.
      is_last: whether the text is attended to and then left.
    """

    is_dual: bool
    is_last: bool


class JointGroup(NamedTuple):
    """Blocks that repeat over depth, and how often."""

    unit: tuple[JointKind, ...]
    repeats: int


@dataclasses.dataclass(frozen=True)
class SingleBlocks:
    """Equal blocks of one stream."""

    num_layers: int

    @property
    def groups(self) -> tuple[JointGroup, ...]:
        """The blocks as one that repeats."""
        kind = JointKind(False, False)
        return (JointGroup((kind,), self.num_layers),) if self.num_layers else ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MMDiTConfig:
    """A transformer over a picture and a text, each with weights of its own (SD3, 2403.03206).

    Every block is modulated by the embedding of time, to which that of a pooled vector is added;
    keys and values of both streams are attended to together. FLUX.1 goes on with blocks in which
    both are one stream.

    Attributes:
      stack: what the blocks of both streams are, whose one kind of layer must be bidirectional.
        With rotary positions it turns the picture's heads by rows and columns (`rope.sections`),
        and there is no table.
      context_dim: width of the text's vectors.
      pooled_dim: width of the vector that joins the embedding of time, through two layers.
      size: rows and columns of x.
      channels: of x.
      patch_size: rows and columns of a patch, which divide the picture's.
      table_side: rows and columns of a grid of fixed positions, of which the middle is used; None:
        those of the picture's own.
      base_side: patches along a side at which positions are whole numbers times
        base_side / table_side; None: the picture's own.
      qk_norm: whether queries and keys of each stream are normalised by RMS norms over a head.
      dual_layers: first blocks in which the picture also attends to itself alone (SD3.5 medium).
      single_layers: further blocks, of one stream, in which attention and feed-forward read the
        same and are added together (FLUX.1).
      told_guidance: the scale of guidance that a network is told like a time, which was distilled
        from a guided one (FLUX.1 dev); None: it is told of none.
    """

    stack: StackConfig
    context_dim: PositiveInt
    pooled_dim: PositiveInt
    size: PositiveInt = 128
    channels: PositiveInt = 16
    patch_size: PositiveInt = 2
    table_side: PositiveInt | None = None
    base_side: PositiveInt | None = None
    qk_norm: bool = False
    dual_layers: NonNegativeInt = 0
    single_layers: NonNegativeInt = 0
    told_guidance: PositiveFloat | None = None

    image_channels = 0

    def __post_init__(self):
        check_domains(self, "mmdit")
        if self.size % self.patch_size:
            raise ConfigError(
                f"mmdit.size={self.size} is not divided by mmdit.patch_size={self.patch_size}."
            )
        if self.table_side is not None and self.table_side < self.side:
            raise ConfigError(
                f"mmdit.table_side={self.table_side} has no middle of {self.side} x {self.side} "
                "patches; give as many or more."
            )
        if self.dual_layers > self.stack.num_layers:
            raise ConfigError(
                f"mmdit.dual_layers={self.dual_layers} exceeds the "
                f"{self.stack.num_layers} blocks of mmdit.stack."
            )
        check_stack(self.stack, "mmdit")
        self._check_plain()
        if self.has_table and self.stack.embed_dim % 4:
            raise ConfigError(
                f"mmdit.stack.embed_dim={self.stack.embed_dim} must be a multiple of 4, for the "
                "sines and cosines of positions."
            )

    def _check_plain(self) -> None:
        begun = {field.name: field.default for field in dataclasses.fields(StackConfig)}
        for name in PLAIN:
            value = getattr(self.stack, name)
            if value != begun[name]:
                raise ConfigError(
                    f"mmdit.stack has {name}={value!r}, which blocks of two streams do not have; "
                    f"leave it {begun[name]!r}."
                )
        (layer, *others) = self.stack.layers
        if others or layer.qk_norm or layer.temperature or len(layer.mask) > 1:
            raise ConfigError(
                "mmdit.stack.layers must be one layer with layer.mask=(@bidirectional(),); queries "
                "and keys are normalised by mmdit.qk_norm."
            )
        if layer.rope is not None and (layer.rope.sections or (1,))[0]:
            raise ConfigError(
                "mmdit.stack turns heads by a token's position, and a picture has rows and "
                "columns: set rope.sections=(0, 0, ROWS, COLUMNS), or layer.rope=None."
            )
        if layer.rope is not None and (self.table_side or self.base_side):
            raise ConfigError(
                "mmdit.table_side and base_side are of a table, and mmdit.stack has rotary "
                "positions; leave one of them out."
            )

    @property
    def out_channels(self) -> int:
        """Channels of the prediction."""
        return self.channels

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
        """Numbers in a patch."""
        return self.patch_size**2 * self.channels

    @property
    def has_table(self) -> bool:
        """Whether fixed positions are added to patches."""
        return self.stack.layers[0].rope is None

    @property
    def singles(self) -> SingleBlocks:
        """The blocks of one stream."""
        return SingleBlocks(self.single_layers)

    @property
    def groups(self) -> tuple[JointGroup, ...]:
        """The blocks of two streams in order, as units that repeat."""
        last = self.stack.num_layers - (0 if self.single_layers else 1)
        dual = min(self.dual_layers, last)
        runs = (
            (JointKind(True, False), dual),
            (JointKind(False, False), last - dual),
            (JointKind(self.dual_layers > last, True), self.stack.num_layers - last),
        )
        return tuple(JointGroup((kind,), repeats) for kind, repeats in runs if repeats)

    def build_denoiser(self, rngs: nnx.Rngs) -> Denoiser:
        """Returns the network, made under the layout in force."""
        from jaxgen.models.diffusion.mmdit import MMDiT

        return MMDiT(self, rngs)

    def count_denoiser(self) -> ParameterCount:
        """Returns the exact numbers of its parameters."""
        from jaxgen.models.diffusion.mmdit_counting import count_mmdit

        return count_mmdit(self)

    def picture_flops(self, context_length: int) -> int:
        """Returns the FLOPs of one forward pass for one picture and a sequence of that length."""
        from jaxgen.models.diffusion.mmdit_counting import mmdit_flops

        return mmdit_flops(self, context_length)
