"""The configuration of a transformer: shapes and choices, nothing derived from data or devices."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from jaxgen.errors import ConfigError
from jaxgen.models.block_config import Initialization, LatentConfig, LayerConfig
from jaxgen.models.card import ModelCard
from jaxgen.models.parametrization import Parametrization, check
from jaxgen.ops.attention.biases import PositionBias
from jaxgen.ops.attention.masks import Bidirectional
from jaxgen.ops.moe_config import MoEConfig

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.batch import Batch
    from jaxgen.models.base import ParameterCount
    from jaxgen.models.transformer import Transformer
    from jaxgen.sharding.layout import Layout

BiasGroup = Literal["qkv", "attention_out", "feed_forward", "norm", "logits"]


@dataclasses.dataclass(frozen=True)
class BlockKind:
    """What tells one block of a model from another."""

    layer: LayerConfig
    is_sparse: bool


@dataclasses.dataclass(frozen=True)
class Group:
    """Blocks that repeat over depth, and how often."""

    unit: tuple[BlockKind, ...]
    repeats: int


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A stack of blocks over tokens, with a second stack before it in an encoder-decoder.

    Attributes:
      num_layers: blocks (of the decoder, where there is an encoder).
      embed_dim: width of the residual stream.
      num_heads: query heads.
      vocab_size: rows of the embedding; at least the codec's vocabulary.
      mlp_dim: width of the dense feed-forward.
      num_kv_heads: key and value heads; fewer than num_heads is GQA, one is MQA (None: num_heads).
      head_dim: width of a head (None: embed_dim / num_heads).
      num_encoder_layers: blocks of an encoder whose output every block attends to; its layers are
        `layers` made bidirectional, all dense. It shares the token table.
      layers: what differs from layer to layer; repeats over depth.
      latent: multi-head latent attention in place of plain keys and values.
      norm: "rms" (1910.07467) or "layer" (1607.06450).
      norm_epsilon: added to the variance.
      norm_unit_offset: whether scales are kept as their difference from 1 (Gemma).
      norm_placement: where the norms of f in a block stand: "pre": x + f(norm(x)); "post":
        norm(x + f(x)), without a final norm; "output": x + norm(f(x)); "both":
        x + norm(f(norm(x))).
      parallel: attention and feed-forward read the same norm and are added together (GPT-J, PaLM).
      embedding_norm: whether the embedding is normalised.
      embedding_positions: "learned" (needs max_length) or "sinusoidal", added to the embedding.
      max_length: rows of the learned position table.
      num_token_types: rows of a table added by the token's type (BERT's segments); 0: none.
      position_bias: added to attention's logits.
      attention_scale: on attention's logits (None: head_dim^-0.5).
      attention_soft_cap: attention's logits become cap * tanh(logits / cap); None leaves them.
      activation: of the feed-forward; "gelu" is exact, "gelu_tanh" GPT-2's approximation.
      gated: whether the feed-forward has a gate, as SwiGLU and GEGLU have (2002.05202).
      biases: the groups of parameters that have biases; those of experts have none.
      moe: the sparse feed-forward of some layers; None: all layers are dense.
      tie_embeddings: whether the logits use the embedding table.
      scale_embeddings: whether embeddings are multiplied by sqrt(embed_dim).
      scale_logits: whether logits are divided by sqrt(embed_dim).
      logit_soft_cap: as attention_soft_cap, of the logits.
      output_transform: whether a dense layer, activation and norm precede the logits (BERT).
      pooler: whether there is a dense layer with tanh for a row's first token (BERT).
      initialization: how the parameters begin.
      parametrization: how model and training follow from those of a base of another size; None:
        they are as they stand.
      dropout: rate on the embedding and on what a block adds to the stream.
      attention_dropout: rate on attention's weights.
      feed_forward_dropout: rate inside the feed-forward.
      compute_dtype: dtype of activations and matrix products; parameters, softmax, norms and the
        loss stay float32.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
      scan_unroll: how many repeating units one iteration of the scan over layers holds; more
        compiles longer and can run faster.
      card: what was published of the model; no part of what it computes.
    """

    num_layers: int
    embed_dim: int
    num_heads: int
    vocab_size: int
    mlp_dim: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    num_encoder_layers: int = 0
    layers: tuple[LayerConfig, ...] = (LayerConfig(),)
    latent: LatentConfig | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    norm_unit_offset: bool = False
    norm_placement: Literal["pre", "post", "output", "both"] = "pre"
    parallel: bool = False
    embedding_norm: bool = False
    embedding_positions: Literal["learned", "sinusoidal"] | None = None
    max_length: int | None = None
    num_token_types: int = 0
    position_bias: PositionBias | None = None
    attention_scale: float | None = None
    attention_soft_cap: float | None = None
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    gated: bool = True
    biases: tuple[BiasGroup, ...] = ()
    moe: MoEConfig | None = None
    tie_embeddings: bool = True
    scale_embeddings: bool = False
    scale_logits: bool = False
    logit_soft_cap: float | None = None
    output_transform: bool = False
    pooler: bool = False
    initialization: Initialization = Initialization()
    parametrization: Parametrization | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    feed_forward_dropout: float = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    scan_unroll: int = 1
    card: ModelCard | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        for name in ("num_layers", "embed_dim", "num_heads", "vocab_size", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}={getattr(self, name)} must be positive.")
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
        width = self.latent.rope_dim if self.latent else self.width_of_head
        for rope in (layer.rope for layer in self.layers):
            if rope and (rope.width(width) % 2 or rope.width(width) < 2):
                raise ConfigError(
                    f"rotary positions need an even width, not {rope.width(width)}; set "
                    "model.head_dim or rope.fraction."
                )
        if self.embedding_positions == "learned" and not self.max_length:
            raise ConfigError("model.embedding_positions='learned' needs model.max_length.")
        if self.parallel and (self.norm_placement != "pre" or self.num_encoder_layers):
            raise ConfigError(
                "model.parallel needs model.norm_placement='pre' and a model without an encoder."
            )
        for name in ("dropout", "attention_dropout", "feed_forward_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"model.{name}={getattr(self, name)} must be in [0, 1).")
        if self.parametrization is not None:
            check(self.parametrization, self)

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Transformer:
        """Returns the model."""
        from jaxgen.models.transformer import Transformer

        return Transformer(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters."""
        from jaxgen.models.counting import count_parameters

        return count_parameters(self)

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a row of `length`."""
        from jaxgen.models.counting import training_flops_per_token

        return training_flops_per_token(self, length, source_length)

    def batch_spec(
        self, *, batch_size: int, length: int, source_length: int | None = None
    ) -> Batch:
        """Returns the shapes of the batch that the model reads.

        Raises:
          ConfigError: rows longer than the learned positions, or a source where there is no
            encoder, or the reverse.
        """
        from jaxgen.models.base import token_batch_spec

        if self.embedding_positions == "learned" and (self.max_length or 0) < length:
            raise ConfigError(
                f"train.length={length} exceeds the learned positions, "
                f"model.max_length={self.max_length}."
            )
        if self.num_encoder_layers and source_length is None:
            raise ConfigError(
                f"the model has {self.num_encoder_layers} encoder layers: set "
                "train.source_length, the tokens of a row that the encoder reads."
            )
        if not self.num_encoder_layers and source_length is not None:
            raise ConfigError(
                f"train.source_length={source_length} is of models with an encoder; "
                "leave it out, or set model.num_encoder_layers."
            )
        return token_batch_spec(batch_size, length, source_length)

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
        """How much wider than its parametrisation's base; 1 without one."""
        return self.parametrization.width(self.embed_dim) if self.parametrization else 1.0

    @property
    def branch_factor(self) -> float:
        """What a block's additions to the stream are multiplied by."""
        return 1 / self.parametrization.depth(self.num_layers) if self.parametrization else 1.0

    @property
    def groups(self) -> tuple[Group, ...]:
        """The blocks in order, as units that repeat."""
        return _grouped(self.num_layers, self.layers, self.moe)

    @property
    def encoder_groups(self) -> tuple[Group, ...]:
        """The blocks of the encoder, as units that repeat."""
        return _grouped(self.num_encoder_layers, self.encoder_layers, None)

    @property
    def encoder_layers(self) -> tuple[LayerConfig, ...]:
        """The layers, each token attending to all of its segment."""
        return tuple(dataclasses.replace(layer, mask=(Bidirectional(),)) for layer in self.layers)

    @property
    def num_sparse_layers(self) -> int:
        """Blocks with experts."""
        return sum(
            group.repeats * sum(kind.is_sparse for kind in group.unit) for group in self.groups
        )

    @property
    def differs_in_training(self) -> bool:
        """Whether a training pass differs from use: by dropout, or by what experts drop."""
        rates = self.dropout, self.attention_dropout, self.feed_forward_dropout
        return any(rates) or (self.moe is not None and self.moe.capacity_factor is not None)

    def has_bias(self, group: BiasGroup) -> bool:
        """Whether parameters of this group have biases."""
        return group in self.biases


def _grouped(
    depth: int, layers: tuple[LayerConfig, ...], moe: MoEConfig | None
) -> tuple[Group, ...]:
    kinds = [
        BlockKind(layers[i % len(layers)], moe is not None and moe.is_sparse(i))
        for i in range(depth)
    ]
    first = min(moe.first, depth) if moe else 0
    period = math.lcm(len(layers), moe.every if moe else 1)
    repeats = (depth - first) // period
    end = first + repeats * period
    whole = [Group(tuple(kinds[first : first + period]), repeats)] if repeats else []
    return (*_runs(kinds[:first]), *whole, *_runs(kinds[end:]))


def _runs(kinds: list[BlockKind]) -> list[Group]:
    """Equal neighbours as groups."""
    groups: list[Group] = []
    for kind in kinds:
        if groups and groups[-1].unit == (kind,):
            groups[-1] = Group((kind,), groups[-1].repeats + 1)
        else:
            groups.append(Group((kind,), 1))
    return groups
