"""The settings of a mixture of experts."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Literal

from jaxgen.domains import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_domains,
)
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class MoEConfig:
    """A mixture-of-experts feed-forward.

    Attributes:
      num_experts: experts in a layer.
      experts_per_token: how many experts each token is sent to (top-k).
      mlp_dim: width of one expert.
      every: one layer of each `every` is sparse (1: all are).
      offset: which of them; None is the last.
      first: leading layers that are dense, before the counting begins.
      gated: whether experts have a gate; None: as the dense layers have.
      biases: whether experts and the router have biases (gpt-oss).
      clip: gates and what they multiply are cut off at it, the gate's activation is x times the
        sigmoid of 1.702 x, and what it multiplies is raised by 1 (gpt-oss); None: nothing of it.
      shared_mlp_dim: width of an expert that every token visits; 0: there is none.
      shared_gate: whether its output is weighted by a sigmoid of the token (Qwen 2).
      router: "top_k": tokens choose experts; "expert_choice": each expert its tokens (2202.09368),
        looking ahead in the row.
      scores: what makes an expert's weight from its logit.
      normalize_top_k: whether the chosen experts' weights are scaled to sum to 1.
      scale: times the chosen weights.
      weigh: whether weights multiply the experts' outputs or their inputs (Llama 4).
      groups: experts lie in so many groups, of which a token may use `groups_per_token`; a group's
        score is its best, or the sum of its best two where `bias_balancing` (DeepSeek-V2, V3).
      groups_per_token: see `groups`.
      capacity_factor: an expert takes at most this many times its even share of a row's
        assignments, first choices first; the others are dropped (GShard, 2006.16668). None drops
        nothing. With "expert_choice", how much each expert takes.
      second_threshold: in training the second expert of a token is used with a probability: its
        share of both weights over this, at most 1. 0.5 is GShard's (algorithm 1), 0.2 Mesh
        TensorFlow's. None: it is always used.
      bias_balancing: a bias for each expert, added where experts are chosen only, is moved by
        `balance_rate` after each step towards an even load (2408.15664).
      balance_rate: see `bias_balancing`.
      load_balance_weight: weight of the load-balance loss (Switch Transformer, 2101.03961, eq. 4).
      sequence_balance_weight: weight of the load-balance loss of each row by itself, averaged over
        rows (DeepSeek-V3, 2412.19437, eqs. 17-20).
      router_z_weight: weight of the router z-loss (ST-MoE, 2202.08906, eq. 5).
    """

    num_experts: PositiveInt
    experts_per_token: PositiveInt = 2
    mlp_dim: PositiveInt = dataclasses.field(kw_only=True)
    every: PositiveInt = 1
    offset: NonNegativeInt | None = None
    first: NonNegativeInt = 0
    gated: bool | None = None
    biases: bool = False
    clip: PositiveFloat | None = None
    shared_mlp_dim: NonNegativeInt = 0
    shared_gate: bool = False
    router: Literal["top_k", "expert_choice"] = "top_k"
    scores: Literal["softmax", "sigmoid"] = "softmax"
    normalize_top_k: bool = True
    scale: PositiveFloat = 1.0
    weigh: Literal["output", "input"] = "output"
    groups: PositiveInt = 1
    groups_per_token: PositiveInt = 1
    capacity_factor: PositiveFloat | None = None
    second_threshold: PositiveFloat | None = None
    bias_balancing: bool = False
    balance_rate: NonNegativeFloat = 0.001
    load_balance_weight: NonNegativeFloat = 0.01
    sequence_balance_weight: NonNegativeFloat = 0.0
    router_z_weight: NonNegativeFloat = 0.001

    def __post_init__(self):
        check_domains(self, "moe")
        if self.experts_per_token > self.num_experts:
            raise ConfigError(
                f"moe.experts_per_token={self.experts_per_token} must be at most "
                f"moe.num_experts={self.num_experts}."
            )
        if self.place >= self.every:
            raise ConfigError(f"moe.offset={self.offset} must be below moe.every={self.every}.")
        if self.shared_gate and not self.shared_mlp_dim:
            raise ConfigError("moe.shared_gate=True needs moe.shared_mlp_dim.")
        if self.num_experts % self.groups or self.groups_per_token > self.groups:
            raise ConfigError(
                f"moe.groups={self.groups} must divide moe.num_experts={self.num_experts} and be "
                f"no fewer than moe.groups_per_token={self.groups_per_token}."
            )
        if self.second_threshold and (self.router, self.experts_per_token) != ("top_k", 2):
            raise ConfigError(
                f"moe.second_threshold={self.second_threshold} is about tokens that choose two "
                "experts: set moe.router='top_k' and moe.experts_per_token=2, or leave it out."
            )
        if self.router == "expert_choice" and self.capacity_factor is None:
            raise ConfigError(
                "moe.router='expert_choice' needs moe.capacity_factor: 1 lets the experts "
                "together take experts_per_token times the tokens of a row."
            )
        if self.router == "expert_choice" and (self.bias_balancing or self.groups > 1):
            raise ConfigError(
                "moe.router='expert_choice' is balanced by itself: leave out moe.bias_balancing "
                "and moe.groups."
            )

    @property
    def place(self) -> int:
        """Which layer of each `every` is sparse."""
        return self.every - 1 if self.offset is None else self.offset

    @property
    def visits(self) -> Fraction:
        """The experts that a token visits, on average where experts choose."""
        visits = Fraction(self.experts_per_token)
        chosen = self.router == "expert_choice"
        return visits * Fraction(self.capacity_factor or 1.0) if chosen else visits

    @property
    def differs_in_training(self) -> bool:
        """Whether tokens visit other experts in a training pass than when the model is used."""
        return not (self.capacity_factor is None and self.second_threshold is None)

    def limits_capacity(self, is_training: bool) -> bool:
        """Returns whether an expert takes no more of a row's tokens than its capacity."""
        return self.capacity_factor is not None and (is_training or self.router == "expert_choice")

    def is_sparse(self, layer: int) -> bool:
        """Returns whether the layer, counted from 0, is sparse."""
        return layer >= self.first and (layer - self.first) % self.every == self.place
