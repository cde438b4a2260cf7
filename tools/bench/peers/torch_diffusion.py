"""Denoisers of `diffusers` and their train steps: the peers that jaxgen's are measured against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rows:
    """One fixed batch: noisy pictures and noise [batch, size, size, channels], and times.

    Attributes:
      noisy: what is read.
      noise: what is to be predicted.
      time: [batch] float32.
      sequence: [batch, length, width] that a U-Net attends to.
      labels: [batch] int, which a DiT is told.
    """

    noisy: np.ndarray
    noise: np.ndarray
    time: np.ndarray
    sequence: np.ndarray
    labels: np.ndarray


def make_peer(network: str, size: int, width: int) -> Any:
    """Returns a U-Net in the layout of Stable Diffusion 1 or a DiT, with random weights."""
    import torch
    from diffusers import DiTTransformer2DModel, UNet2DConditionModel

    torch.manual_seed(0)
    if network == "unet":
        return UNet2DConditionModel(
            sample_size=size,
            block_out_channels=(width, 2 * width),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=2,
            attention_head_dim=4,
            cross_attention_dim=width,
        )
    peer = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=width // 4,
        in_channels=4,
        num_layers=6,
        sample_size=size,
        num_embeds_ada_norm=10,
    )
    with torch.no_grad():  # jaxgen has one embedding of time and class, as the paper has.
        first = peer.transformer_blocks[0].norm1.emb.state_dict()
        for block in peer.transformer_blocks:
            block.norm1.emb.load_state_dict(first)
    return peer


def build(network: str, peer: Any, rows: Rows, compiled: bool) -> Callable[[], float]:
    """Returns a step without arguments that trains on the batch and returns its loss.

    Threads are left to PyTorch (one a core).
    """
    import torch

    def as_torch(x: np.ndarray) -> Any:
        return torch.from_numpy(x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x)

    noisy, noise, time = map(as_torch, (rows.noisy, rows.noise, rows.time))
    told = {"encoder_hidden_states": as_torch(rows.sequence)}
    if network == "dit":
        told = {"class_labels": as_torch(rows.labels)}
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4)
    peer.eval()  # Dropout of classes is left out on both sides.
    run = torch.compile(peer) if compiled else peer

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        made = run(noisy, timestep=time, return_dict=False, **told)[0]
        loss = torch.nn.functional.mse_loss(made, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
