"""The configuration of a stack of blocks, whatever it reads: tokens, patches, frames or noise."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from jaxgen.domains import PositiveFloat, PositiveInt, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.block_config import LatentConfig, LayerConfig
from jaxgen.models.parametrization import Parametrization
from jaxgen.ops.attention.biases import PositionBias
from jaxgen.ops.attention.masks import reads_cells
from jaxgen.ops.initializers import Initialization
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.quantised import MatmulDtype

BiasGroup = Literal["qkv", "qv", "attention_out", "feed_forward", "norm", "logits"]


@dataclasses.dataclass(frozen=True)
class BlockKind:
    """A kind of block: what distinguishes it from the other blocks of its stack."""

    layer: LayerConfig
    is_sparse: bool


@dataclasses.dataclass(frozen=True)
class Group:
    """Blocks that repeat over depth, and how often."""

    unit: tuple[BlockKind, ...]
    repeats: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack of blocks over a stream of vectors: all that blocks and their parts know of a model.

    Attributes:
      num_layers: blocks.
      embed_dim: width of the residual stream.
      num_heads: query heads.
      mlp_dim: width of the dense feed-forward.
      num_kv_heads: key and value heads; fewer than num_heads is GQA, one is MQA (None: num_heads).
      head_dim: width of a head (None: embed_dim / num_heads).
      layers: what differs from layer to layer; repeats over depth.
      last_layers: of the last blocks, one each, in place of those (DALL-E); (): there are none.
      latent: multi-head latent attention in place of plain keys and values.
      norm: "rms" (1910.07467) or "layer" (1607.06450).
      norm_epsilon: added to the variance.
      norm_unit_offset: whether scales are kept as their difference from 1 (Gemma).
      norm_scale: whether norms have learned scales (OLMo 1 has none).
      norm_placement: where the norms of f in a block stand: "pre": x + f(norm(x)); "post":
        norm(x + f(x)), without a final norm; "output": x + norm(f(x)); "both":
        x + norm(f(norm(x))).
      parallel: attention and feed-forward read one stream and are added together (GPT-J, PaLM).
      parallel_norms: of a parallel block: one that both read, or one for each (GPT-NeoX).
      residual_factor: on what attention and feed-forward add to the stream (Granite).
      qkv_clip: queries, keys and values are cut off at plus and minus this (OLMo, MPT).
      position_bias: added to attention's logits.
      attention_scale: on attention's logits (None: head_dim^-0.5).
      attention_soft_cap: attention's logits become cap * tanh(logits / cap); None leaves them.
      attention_sinks: whether each head has a learned logit beside those of its keys (gpt-oss).
      activation: of the feed-forward; "gelu" is exact, "gelu_tanh" GPT-2's approximation,
        "quick_gelu" CLIP's, x sigmoid(1.702 x), "relu2" the square of "relu" (2109.08668).
      gated: whether the feed-forward has a gate, as SwiGLU and GEGLU have (2002.05202).
      biases: the groups of parameters that have biases; those of experts have none. Instead of
        "qkv", "qv" leaves out that of keys, which changes nothing (Whisper).
      moe: the sparse feed-forward of some layers; None: all layers are dense.
      initialization: how the parameters begin.
      parametrization: how model and training follow from those of a base of another size; None:
        they are as they stand.
      dropout: rate on the embedding and on what a block adds to the stream.
      attention_dropout: rate on attention's weights.
      feed_forward_dropout: rate inside the feed-forward.
      compute_dtype: dtype of activations and matrix products; parameters, softmax, norms and the
        loss stay float32.
      matmul_dtype: what a block's projections (of attention and the dense feed-forward) round their
        operands to, by qwix: "int8" or "float8"; None leaves them as they are.
    """

    num_layers: PositiveInt
    embed_dim: PositiveInt
    num_heads: PositiveInt
    mlp_dim: PositiveInt
    num_kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    layers: tuple[LayerConfig, ...] = (LayerConfig(),)
    last_layers: tuple[LayerConfig, ...] = ()
    latent: LatentConfig | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: PositiveFloat = 1e-6
    norm_unit_offset: bool = False
    norm_scale: bool = True
    norm_placement: Literal["pre", "post", "output", "both"] = "pre"
    parallel: bool = False
    parallel_norms: Literal[1, 2] = 1
    residual_factor: PositiveFloat = 1.0
    qkv_clip: PositiveFloat | None = None
    position_bias: PositionBias | None = None
    attention_scale: PositiveFloat | None = None
    attention_soft_cap: PositiveFloat | None = None
    attention_sinks: bool = False
    activation: Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2"] = "silu"
    gated: bool = True
    biases: tuple[BiasGroup, ...] = ()
    moe: MoEConfig | None = None
    initialization: Initialization = Initialization()
    parametrization: Parametrization | None = None
    dropout: ProperFraction = 0.0
    attention_dropout: ProperFraction = 0.0
    feed_forward_dropout: ProperFraction = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    matmul_dtype: MatmulDtype | None = None

    def __post_init__(self):
        check_domains(self, "model")
        if self.head_dim is None and self.embed_dim % self.num_heads:
            raise ConfigError(
                f"model.embed_dim={self.embed_dim} does not divide into "
                f"model.num_heads={self.num_heads} heads; give model.head_dim or another number."
            )
        if self.num_heads % self.kv_heads:
            raise ConfigError(
                f"model.num_kv_heads={self.num_kv_heads} must divide "
                f"model.num_heads={self.num_heads}."
            )
        if not self.layers:
            raise ConfigError("model.layers is empty; it needs one layer, such as (@layer(),).")
        if len(self.last_layers) > self.num_layers:
            raise ConfigError(
                f"model.last_layers has {len(self.last_layers)} layers, and "
                f"model.num_layers={self.num_layers}; name fewer."
            )
        width = self.latent.rope_dim if self.latent else self.width_of_head
        for rope in (layer.rope for layer in self.kinds_of_layers):
            if rope and (rope.width(width) % 2 or rope.width(width) < 2):
                raise ConfigError(
                    f"rotary positions need an even width, not {rope.width(width)}; set "
                    "model.head_dim or rope.fraction."
                )
            if rope and rope.sections and 2 * sum(rope.sections) != rope.width(width):
                raise ConfigError(
                    f"rope.sections={rope.sections} are {sum(rope.sections)} pairs, and heads turn "
                    f"{rope.width(width) // 2}; give as many."
                )
        if {"qkv", "qv"} <= set(self.biases):
            raise ConfigError("model.biases has 'qkv' and 'qv'; leave one out.")
        if self.parallel_norms > 1 and not self.parallel:
            raise ConfigError("model.parallel_norms=2 needs model.parallel=True.")
        if self.latent is not None and (self.qkv_clip or self.attention_sinks):
            raise ConfigError("model.qkv_clip and attention_sinks are not of model.latent.")
        if self.parallel and self.norm_placement != "pre":
            raise ConfigError("model.parallel needs model.norm_placement='pre'.")

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def kv_axis(self) -> str | None:
        """The logical axis of the key and value heads; a single one is whole everywhere."""
        return "kv_heads" if self.kv_heads > 1 else None

    @property
    def width_of_head(self) -> int:
        """Width of one head."""
        return self.embed_dim // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def width_factor(self) -> float:
        """How many times wider the stack is than its parametrisation's base; 1 without one."""
        return self.parametrization.width(self.embed_dim) if self.parametrization else 1.0

    @property
    def branch_factor(self) -> float:
        """The factor on what a block adds to the stream."""
        depth = self.parametrization.depth(self.num_layers) if self.parametrization else 1.0
        return self.residual_factor / depth

    @property
    def groups(self) -> tuple[Group, ...]:
        """The blocks in order, as units that repeat."""
        repeating = self.num_layers - len(self.last_layers)
        first = min(self.moe.first, repeating) if self.moe else 0
        period = math.lcm(len(self.layers), self.moe.every if self.moe else 1)
        repeats = (repeating - first) // period
        end = first + repeats * period
        # No list of all blocks: a depth mistyped in the millions must not take a minute.
        whole = [Group(tuple(self._kinds(first, first + period)), repeats)] if repeats else []
        before, after = self._kinds(0, first), self._kinds(end, self.num_layers)
        return (*_runs(before), *whole, *_runs(after))

    def _kinds(self, begin: int, end: int) -> list[BlockKind]:
        return [
            BlockKind(self.layer_of(number), self.moe is not None and self.moe.is_sparse(number))
            for number in range(begin, end)
        ]

    @property
    def kinds_of_layers(self) -> tuple[LayerConfig, ...]:
        """All that layers are, in the order of their names in the configuration."""
        return (*self.layers, *self.last_layers)

    def layer_of(self, number: int) -> LayerConfig:
        """Returns what the layer of a number, counted from 0, is."""
        from_end = number - self.num_layers
        if from_end >= -len(self.last_layers):
            return self.last_layers[from_end]
        return self.layers[number % len(self.layers)]

    @property
    def reads_cells(self) -> bool:
        """Whether a mask asks where codes lie in their pictures."""
        return any(reads_cells(layer.mask) for layer in self.kinds_of_layers)

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use: by dropout, or by what experts drop."""
        rates = self.dropout, self.attention_dropout, self.feed_forward_dropout
        return any(rates) or (self.moe is not None and self.moe.differs_in_training)

    def has_bias(self, group: BiasGroup) -> bool:
        """Returns whether parameters of this group have biases."""
        return group in self.biases


def _runs(kinds: list[BlockKind]) -> list[Group]:
    """Returns equal neighbours as groups."""
    groups: list[Group] = []
    for kind in kinds:
        if groups and groups[-1].unit == (kind,):
            groups[-1] = Group((kind,), groups[-1].repeats + 1)
        else:
            groups.append(Group((kind,), 1))
    return groups
