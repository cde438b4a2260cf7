"""The configuration of the U-Net: every published one is a row of its fields."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jaxgen.domains import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
    check_domains,
)
from jaxgen.errors import ConfigError
from jaxgen.models.base import ParameterCount

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.diffusion.unet import UNet

EACH_LEVEL = ("blocks", "attention", "transformer_depth")
"""Fields with one entry for each level, or one for all."""

AttentionKind = Literal["self", "joint", "cross", "transformer"]


@dataclasses.dataclass(frozen=True)
class Level:
    """What is computed at one resolution.

    Attributes:
      size: rows and columns.
      width: channels.
      blocks: residual blocks of the way down.
      attention: its kind; None: there is none.
      depth: blocks of a transformer.
    """

    size: int
    width: int
    blocks: int
    attention: AttentionKind | None
    depth: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A U-Net of residual blocks that are told the time (2006.11239, 2105.05233, 2112.10752).

    On the way down, each level has its residual blocks, of which each may be followed by an
    attention, and halves rows and columns; on the way up each has one block more, and a block reads
    what a block of the way down left, joined to the channels. In the middle are two blocks with an
    attention between them.

    Attributes:
      size: rows and columns of x.
      channels: of x.
      out_channels: of the prediction: those of x, or twice as many with a learned variance.
      image_channels: of a picture that is read beside x, such as the one that is enlarged; 0: none.
      context_dim: width of the sequence that attention reads; None: there is none.
      pooled_dim: width of a vector that joins the embedding of time; None: there is none.
      width: channels of a level whose multiplier is 1; the embedding of time is 4 times as wide.
      multipliers: of each level, from the highest resolution on.
      blocks: residual blocks of the way down, one number for each level, or one for all.
      order: "standard"; or "efficient" (Imagen's Efficient U-Net, 2205.11487, appendix B): each
        level halves before its blocks and doubles after them, leaves one skip connection and not
        one a block, and there is no middle.
      attention: kinds, one for each level, or one for all. "self": pixels attend to pixels (ADM);
        "joint": to pixels and to the sequence, in one softmax (GLIDE, 2112.10741); "cross": to the
        sequence alone; "transformer": blocks of self-attention, cross-attention and a gated
        feed-forward (Stable Diffusion). None: no attention.
      middle_attention: the kind of that in the middle.
      num_heads: of every attention; None: as many as heads of `head_dim` fill the level's width.
      head_dim: width of a head; None: that of `num_heads` that fill the level's width.
      transformer_depth: blocks of a transformer, one number for each level, or one for all.
      scale_shift: whether the embedding of time scales and shifts what the second norm of a block
        gives (adaptive group norm), or is added before it.
      resampling: rows and columns are halved and doubled by a "convolution", or inside further
        residual "blocks" (BigGAN, 1809.11096; ADM).
      skip_scale: on what the way up reads of the way down; 2^-0.5 in Imagen.
      pooled_join: how the vector joins the embedding of time: "add", as it is; by a "matrix"; by
        "layers", two matrices with SiLU between.
      pooled_tokens: tokens that a matrix makes of the vector, which stand after the sequence (4 in
        unCLIP).
      image_time: whether the network is told how noisy the picture beside x was made.
      context_norm: whether the sequence is normalised by LayerNorm first (Imagen).
      norm_groups: of group norm.
      norm_epsilon: of group norm, added to the variance; that before a transformer has 1e-6.
      dropout: rate in a block, before its second convolution.
      compute_dtype: of activations and products; parameters and norms stay float32.
    """

    size: PositiveInt = 64
    channels: PositiveInt = 3
    out_channels: PositiveInt = 3
    image_channels: NonNegativeInt = 0
    context_dim: PositiveInt | None = None
    pooled_dim: PositiveInt | None = None
    width: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 2, 2)
    blocks: tuple[PositiveInt, ...] = (2,)
    order: Literal["standard", "efficient"] = "standard"
    attention: tuple[AttentionKind | None, ...] = (None,)
    middle_attention: AttentionKind | None = "self"
    num_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = 64
    transformer_depth: tuple[PositiveInt, ...] = (1,)
    scale_shift: bool = False
    resampling: Literal["convolution", "blocks"] = "convolution"
    skip_scale: PositiveFloat = 1.0
    pooled_join: Literal["add", "matrix", "layers"] = "matrix"
    pooled_tokens: NonNegativeInt = 0
    image_time: bool = False
    context_norm: bool = False
    norm_groups: PositiveInt = 32
    norm_epsilon: PositiveFloat = 1e-5
    dropout: ProperFraction = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        check_domains(self, "unet")
        for name in EACH_LEVEL:
            found = getattr(self, name)
            if len(found) == len(self.multipliers) and len(set(found)) == 1:
                object.__setattr__(self, name, found[:1])  # Two that are the same are equal.
        self._check_levels()
        self._check_attention()
        self._check_vectors()

    @property
    def time_dim(self) -> int:
        """Width of the embedding of time."""
        return 4 * self.width

    @property
    def is_efficient(self) -> bool:
        """Whether levels are ordered as in the Efficient U-Net."""
        return self.order == "efficient"

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels, from the highest resolution on."""
        count = len(self.multipliers)
        given = [getattr(self, name) for name in EACH_LEVEL]
        each = [one * count if len(one) == 1 else one for one in given]
        halvings = range(self.is_efficient, count + self.is_efficient)
        return tuple(
            Level(self.size // 2**halved, self.width * multiplier, *own)
            for halved, multiplier, *own in zip(halvings, self.multipliers, *each, strict=True)
        )

    def heads(self, width: int) -> tuple[int, int]:
        """Returns number and width of the heads of an attention in so many channels."""
        if self.head_dim is None:
            assert self.num_heads is not None
            return self.num_heads, width // self.num_heads
        return self.num_heads or width // self.head_dim, self.head_dim

    def build_denoiser(self, rngs: nnx.Rngs) -> UNet:
        """Returns the network, made under the layout in force."""
        from jaxgen.models.diffusion.unet import UNet

        return UNet(self, rngs)

    def count_denoiser(self) -> ParameterCount:
        """Returns the exact numbers of its parameters, in closed form."""
        from jaxgen.models.diffusion.unet_counting import count_unet

        total = count_unet(self)
        return ParameterCount(total=total, active=total)

    def picture_flops(self, context_length: int) -> int:
        """Returns the FLOPs of one forward pass for one picture and a sequence of that length."""
        from jaxgen.models.diffusion.unet_counting import unet_flops

        return unet_flops(self, context_length)

    def _check_levels(self) -> None:
        count = len(self.multipliers)
        if not count:
            raise ConfigError("unet.multipliers is empty; give one number for each level.")
        for name in EACH_LEVEL:
            found = getattr(self, name)
            if len(found) not in (1, count):
                raise ConfigError(
                    f"unet.{name}={found} has {len(found)} entries, and unet.multipliers has "
                    f"{count}: give one for each level, or one for all."
                )
        halvings = count - 1 + self.is_efficient
        if self.size % 2**halvings:
            raise ConfigError(
                f"unet.size={self.size} cannot be halved {halvings} times; use a multiple of "
                f"{2**halvings}, or fewer unet.multipliers."
            )
        if uneven := [one for one in self.widths if one % self.norm_groups]:
            raise ConfigError(
                f"unet.norm_groups={self.norm_groups} do not divide a level's {uneven[0]} channels "
                f"(unet.width={self.width}, unet.multipliers={self.multipliers})."
            )
        if self.is_efficient and self.middle_attention is not None:
            raise ConfigError(
                "unet.order='efficient' has no middle; set unet.middle_attention=None."
            )
        if self.is_efficient and self.resampling != "convolution":
            raise ConfigError(
                "unet.order='efficient' changes resolutions by convolutions before and after the "
                "blocks; set unet.resampling='convolution'."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first convolution, and of each level."""
        return self.width, *(self.width * one for one in self.multipliers)

    def _check_attention(self) -> None:
        places = [(level.attention, level.width) for level in self.levels]
        places.append((self.middle_attention, self.levels[-1].width))
        kinds = {kind for kind, _ in places} - {None}
        if kinds and self.num_heads is None and self.head_dim is None:
            raise ConfigError("unet.num_heads and unet.head_dim are both None; give one of them.")
        if kinds & {"joint", "cross"} and self.context_dim is None:
            raise ConfigError(
                f"unet.attention={self.attention} reads a sequence; give unet.context_dim, its "
                "width."
            )
        if kinds <= {"self"} and self.context_dim is not None:
            raise ConfigError(
                f"unet.context_dim={self.context_dim}, and no attention reads a sequence; leave it "
                "out, or make an attention 'joint', 'cross' or 'transformer'."
            )
        if self.num_heads is not None and self.head_dim is not None:
            return
        divisor = self.num_heads or self.head_dim or 1
        if uneven := [width for kind, width in places if kind is not None and width % divisor]:
            name = "num_heads" if self.num_heads else "head_dim"
            raise ConfigError(
                f"unet.{name}={divisor} does not divide the {uneven[0]} channels of a level with "
                "attention; give both unet.num_heads and unet.head_dim, or another number."
            )

    def _check_vectors(self) -> None:
        if self.pooled_tokens and (self.pooled_dim is None or self.context_dim is None):
            raise ConfigError(
                f"unet.pooled_tokens={self.pooled_tokens} are made of a vector and join a "
                "sequence; give unet.pooled_dim and unet.context_dim."
            )
        if self.pooled_join == "add" and self.pooled_dim not in (None, self.time_dim):
            raise ConfigError(
                f"unet.pooled_join='add' with unet.pooled_dim={self.pooled_dim}: the embedding of "
                f"time has {self.time_dim}; make the vector as wide, or set "
                "unet.pooled_join='matrix'."
            )
        if self.context_norm and self.context_dim is None:
            raise ConfigError("unet.context_norm=True needs unet.context_dim.")
        if self.image_time and not self.image_channels:
            raise ConfigError(
                "unet.image_time=True is of a picture beside x; give unet.image_channels."
            )
