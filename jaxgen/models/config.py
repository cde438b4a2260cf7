"""The configuration of a transformer: shapes and choices, nothing derived from data or devices."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxgen.errors import ConfigError

BlockKind = Literal["dense", "moe"]


@dataclasses.dataclass(frozen=True)
class MoEConfig:
    """A token-choice mixture-of-experts feed-forward, dropless.

    Attributes:
      num_experts: experts in a layer.
      experts_per_token: how many experts each token is sent to (top-k).
      mlp_dim: width of one expert.
      every: every n-th layer is sparse, the last of each group of n (1: all layers).
      normalize_top_k: whether the chosen experts' probabilities are scaled to sum to 1.
      load_balance_weight: weight of the load-balance loss (Switch Transformer, 2101.03961, eq. 4).
      router_z_weight: weight of the router z-loss (ST-MoE, 2202.08906, eq. 5).
    """

    num_experts: int
    experts_per_token: int = 2
    mlp_dim: int = 0
    every: int = 1
    normalize_top_k: bool = True
    load_balance_weight: float = 0.01
    router_z_weight: float = 0.001

    def __post_init__(self):
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise ConfigError(
                f"moe.experts_per_token={self.experts_per_token} must lie between 1 and "
                f"moe.num_experts={self.num_experts}."
            )
        if self.mlp_dim < 1:
            raise ConfigError("moe.mlp_dim, the width of one expert, must be given and positive.")
        if self.every < 1:
            raise ConfigError(f"moe.every={self.every} must be 1 (all layers sparse) or more.")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A decoder-only transformer.

    Attributes:
      num_layers: blocks.
      embed_dim: width of the residual stream.
      num_heads: query heads.
      vocab_size: rows of the embedding; at least the codec's vocabulary.
      mlp_dim: width of the dense feed-forward.
      num_kv_heads: key and value heads; fewer than num_heads is GQA, one is MQA (None: num_heads).
      head_dim: width of a head (None: embed_dim / num_heads).
      norm: "rms" (1910.07467) or "layer" (1607.06450).
      norm_epsilon: added to the variance.
      positions: "rope" (2104.09864), "learned" (needs max_length) or "none".
      rope_base: the slowest wavelength's base.
      max_length: rows of the learned position table.
      feed_forward: "swiglu", "geglu" (2002.05202; three matrices) or "gelu" (two).
      use_bias: biases on the attention and feed-forward projections (not on experts).
      tie_embeddings: whether the logits use the embedding table.
      logit_soft_cap: logits become cap * tanh(logits / cap); None leaves them.
      z_loss: weight of log(Z)^2 in the loss (PaLM, 2204.02311, 5).
      moe: the sparse feed-forward of every moe.every-th layer; None: all layers are dense.
      embedding_stddev: standard deviation of the embedding at the start.
      compute_dtype: dtype of activations and matrix products; parameters, softmax, norms and the
        loss stay float32.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
      scan_unroll: how many repeating units one iteration of the scan over layers holds; more
        compiles longer and can run faster.
    """

    num_layers: int
    embed_dim: int
    num_heads: int
    vocab_size: int
    mlp_dim: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    positions: Literal["rope", "learned", "none"] = "rope"
    rope_base: float = 10_000.0
    max_length: int | None = None
    feed_forward: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    use_bias: bool = False
    tie_embeddings: bool = True
    logit_soft_cap: float | None = None
    z_loss: float = 0.0
    moe: MoEConfig | None = None
    embedding_stddev: float = 0.02
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "none"
    scan_unroll: int = 1

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
        if self.positions == "rope" and self.width_of_head % 2:
            raise ConfigError(
                f"rotary positions need an even head_dim, not {self.width_of_head}; "
                "set model.head_dim."
            )
        if self.positions == "learned" and not self.max_length:
            raise ConfigError("model.positions='learned' needs model.max_length.")
        if self.num_layers % len(self.unit):
            raise ConfigError(
                f"model.num_layers={self.num_layers} is not a multiple of "
                f"moe.every={len(self.unit)}, the length of the repeating unit."
            )

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def width_of_head(self) -> int:
        """Width of one head."""
        return self.embed_dim // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def unit(self) -> tuple[BlockKind, ...]:
        """The kinds of the blocks that repeat over depth."""
        if self.moe is None:
            return ("dense",)
        return ("dense",) * (self.moe.every - 1) + ("moe",)

    @property
    def num_units(self) -> int:
        """How often the unit repeats."""
        return self.num_layers // len(self.unit)

    @property
    def feed_forward_is_gated(self) -> bool:
        """Whether the feed-forward has a gate beside its up projection."""
        return self.feed_forward in ("swiglu", "geglu")
