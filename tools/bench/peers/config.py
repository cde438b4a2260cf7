"""The sizes of a benchmarked model, shared by every peer."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class PeerConfig:
    """A GPT-2-like decoder and the batch it is trained on.

    Learned positions, pre-LayerNorm with scale and bias, GELU in its tanh form, linear maps without
    bias, output projection tied to the embedding; AdamW that decays matrices only. The head
    dimension is `embed_dim // num_heads`.
    """

    num_layers: int = 4
    embed_dim: int = 256
    num_heads: int = 4
    mlp_dim: int = 1024
    vocab_size: int = 512
    length: int = 256
    batch_size: int = 16
