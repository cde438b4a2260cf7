"""A decoder's train step in PyTorch as its users would write it: compiled, with flash attention.

Parameters and AdamW's moments are float32, products bfloat16 by autocast. It is GPT-2's block
(learned positions, LayerNorm, GELU, biases) or Llama's (rotary positions, RMSNorm, SwiGLU, shared
key heads), the latter also with experts, of which each token visits the best few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peers.config import DecoderConfig
from torch import nn
from torch.nn import functional


def build(sizes: DecoderConfig) -> tuple[Callable[[], Any], Callable[[], None], Callable[[], Any]]:
    """Returns three functions: a step that gives its loss without waiting for it, one that waits,
    and one that gives the device's name and the most bytes of it that were in use.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Decoder(sizes).to(device)
    matrices = [one for one in model.parameters() if one.ndim > 1]
    vectors = [one for one in model.parameters() if one.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=3e-4,
        betas=(0.9, 0.95),
        fused=True,
    )
    # Loops over experts have shapes that change with every batch.
    compiled: Any = torch.compile(model, dynamic=False) if sizes.experts == 0 else model
    window = torch.randint(sizes.vocab_size, (sizes.rows, sizes.length + 1), device=device)
    tokens, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()

    def step() -> Any:
        with torch.autocast(device, torch.bfloat16):
            loss = compiled(tokens, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    def describe() -> tuple[str, int | None]:
        if device == "cpu":
            return device, None
        return torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()

    return step, torch.cuda.synchronize if device == "cuda" else lambda: None, describe


class Decoder(nn.Module):
    """Token table, blocks, norm, and the table again."""

    def __init__(self, sizes: DecoderConfig):
        super().__init__()
        self.sizes = sizes
        self.tokens = nn.Embedding(sizes.vocab_size, sizes.embed_dim)
        is_gpt2 = sizes.style == "gpt2"
        self.positions = nn.Embedding(sizes.length, sizes.embed_dim) if is_gpt2 else None
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.num_layers))
        self.final_norm = _norm(sizes)
        head_dim = sizes.embed_dim // sizes.num_heads
        speeds = 10_000 ** -(torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.arange(sizes.length)[:, None] * speeds
        self.register_buffer("angles", torch.cat([angles, angles], dim=-1), persistent=False)
        self.apply(_initialise)

    def forward(self, tokens: Any, targets: Any) -> Any:
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight
        for block in self.blocks:
            x = block(x, self.angles)
        logits = functional.linear(self.final_norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class Block(nn.Module):
    """Attention and a feed-forward, each added to the stream."""

    def __init__(self, sizes: DecoderConfig):
        super().__init__()
        self.sizes, self.is_gpt2 = sizes, sizes.style == "gpt2"
        self.head_dim = sizes.embed_dim // sizes.num_heads
        width = (sizes.num_heads + 2 * sizes.kv_heads) * self.head_dim
        self.attention_norm, self.mlp_norm = _norm(sizes), _norm(sizes)
        self.query_key_value = nn.Linear(sizes.embed_dim, width, bias=self.is_gpt2)
        self.output = nn.Linear(sizes.embed_dim, sizes.embed_dim, bias=self.is_gpt2)
        self.mlp = Experts(sizes) if sizes.experts else FeedForward(sizes)

    def forward(self, x: Any, angles: Any) -> Any:
        sizes = self.sizes
        parts = [n * self.head_dim for n in (sizes.num_heads, sizes.kv_heads, sizes.kv_heads)]
        projected = self.query_key_value(self.attention_norm(x)).split(parts, dim=-1)
        query, key, value = (
            part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in projected
        )
        if not self.is_gpt2:
            query, key = (_rotated(one, angles) for one in (query, key))
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=sizes.kv_heads < sizes.num_heads
        )
        x = x + self.output(mixed.transpose(1, 2).flatten(-2))
        return x + self.mlp(self.mlp_norm(x))


class FeedForward(nn.Module):
    """GELU, or SwiGLU."""

    def __init__(self, sizes: DecoderConfig):
        super().__init__()
        self.is_gpt2 = sizes.style == "gpt2"
        wide = sizes.mlp_dim if self.is_gpt2 else 2 * sizes.mlp_dim
        self.up = nn.Linear(sizes.embed_dim, wide, bias=self.is_gpt2)
        self.down = nn.Linear(sizes.mlp_dim, sizes.embed_dim, bias=self.is_gpt2)

    def forward(self, x: Any) -> Any:
        if self.is_gpt2:
            return self.down(functional.gelu(self.up(x), approximate="tanh"))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(functional.silu(gate) * up)


class Experts(nn.Module):
    """Every token visits its best experts, one expert after another; nothing is dropped."""

    def __init__(self, sizes: DecoderConfig):
        super().__init__()
        self.per_token = sizes.per_token
        self.router = nn.Linear(sizes.embed_dim, sizes.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(sizes) for _ in range(sizes.experts))

    def forward(self, x: Any) -> Any:
        flat = x.flatten(0, 1)
        weights, chosen = self.router(flat).float().softmax(-1).topk(self.per_token)
        weights = (weights / weights.sum(-1, keepdim=True)).to(flat.dtype)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, choice = (chosen == index).nonzero(as_tuple=True)
            fed = expert(flat[token]) * weights[token, choice, None]
            out = out.index_add(0, token, fed.to(out.dtype))
        return out.view_as(x)


def _norm(sizes: DecoderConfig) -> nn.Module:
    return (nn.LayerNorm if sizes.style == "gpt2" else nn.RMSNorm)(sizes.embed_dim, eps=1e-5)


def _rotated(x: Any, angles: Any) -> Any:
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x * angles.cos() + turned * angles.sin()).to(x.dtype)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
