"""The sizes of benchmarked models, shared by every peer."""

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


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A decoder and the batch it is trained on, in GPT-2's style or Llama's.

    "gpt2" is as the paper has it, with biases; "llama" has rotary positions, RMSNorm, SwiGLU and
    shared key heads. With `experts`, each token visits `per_token` of them; 0 is a dense decoder.
    """

    style: str
    num_layers: int
    embed_dim: int
    num_heads: int
    kv_heads: int
    mlp_dim: int
    vocab_size: int
    length: int
    rows: int
    experts: int = 0
    per_token: int = 2
