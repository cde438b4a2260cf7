"""A GPT train step in PyTorch, in nanoGPT's manner: the peer that jaxgen is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from peers.config import PeerConfig


def build(config: PeerConfig) -> Callable[[], float]:
    """A step without arguments that trains on one fixed random batch and returns its loss.

    Raises ImportError where PyTorch is not installed. Threads are left to PyTorch (one a core).
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm = nn.LayerNorm(config.embed_dim)
            self.query_key_value = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=False)
            self.output = nn.Linear(config.embed_dim, config.embed_dim, bias=False)
            self.mlp_norm = nn.LayerNorm(config.embed_dim)
            self.mlp = nn.Sequential(
                nn.Linear(config.embed_dim, config.mlp_dim, bias=False),
                nn.GELU(approximate="tanh"),
                nn.Linear(config.mlp_dim, config.embed_dim, bias=False),
            )

        def forward(self, x: Any) -> Any:
            heads = (config.num_heads, config.embed_dim // config.num_heads)
            projected = self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
            query, key, value = (part.unflatten(-1, heads).transpose(1, 2) for part in projected)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.output(mixed.transpose(1, 2).flatten(-2))
            return x + self.mlp(self.mlp_norm(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(config.vocab_size, config.embed_dim)
            self.positions = nn.Embedding(config.length, config.embed_dim)
            self.blocks = nn.ModuleList(Block() for _ in range(config.num_layers))
            self.final_norm = nn.LayerNorm(config.embed_dim)
            self.apply(initialise)

        def forward(self, tokens: Any, targets: Any) -> Any:
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.final_norm(x), self.tokens.weight)
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    torch.manual_seed(0)
    model = GPT()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-3,
        betas=(0.9, 0.95),
        fused=True,
    )
    random = np.random.default_rng(0)
    shape = (config.batch_size, config.length + 1)
    window = torch.from_numpy(random.integers(0, config.vocab_size, shape))
    tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()

    def step() -> float:
        loss = model(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
