"""The configurations of a block's attention."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.ops.attention.masks import Causal, Predicate
from jaxgen.ops.positions import LogTemperature, Rope


@dataclasses.dataclass(frozen=True)
class LayerConfig:
    """A layer's configuration holds what may differ from layer to layer of one model.

    Attributes:
      mask: predicates that must all allow a key, beside its being of the same segment.
      rope: rotary positions, or None.
      qk_norm: queries and keys are normalised over each head, by one scale ("head", Qwen 3) or
        each by its own ("heads", Command R+), or over all heads together ("width", OLMo 2), before
        the rotation, as the stack's norm does; or by LayerNorm, with a scale and a bias of each
        head's own ("heads_layer", Chameleon); or over each head, without a learned scale, after
        the rotation ("unit", Llama 4).
      temperature: growth of the queries with their position.
    """

    mask: tuple[Predicate, ...] = (Causal(),)
    rope: Rope | None = Rope()
    qk_norm: Literal["head", "heads", "heads_layer", "width", "unit"] | None = None
    temperature: LogTemperature | None = None


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-V2, 2405.04434, 2.1).

    Attributes:
      kv_rank: width of the latent that keys and values are made from, which is what a cache holds.
      nope_dim: width of a head's part that has no position.
      rope_dim: width of the rotary part, whose key all heads share.
      value_dim: width of a head's values.
      query_rank: width of the queries' latent; None makes them from the stream.
    """

    kv_rank: PositiveInt
    nope_dim: PositiveInt
    rope_dim: PositiveInt
    value_dim: PositiveInt
    query_rank: PositiveInt | None = None

    def __post_init__(self):
        check_domains(self, "latent")
