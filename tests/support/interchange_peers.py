"""Models of transformers to compare with: tiny, random, and nowhere at their beginnings."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import torch
import transformers

from support.interchange_tiny import CONFIGS

transformers.logging.set_verbosity_error()


def make_peer(name: str, seed: int = 0) -> Any:
    """The family's model in transformers, its parameters moved."""
    values = {key: value for key, value in CONFIGS[name].items() if key != "architectures"}
    config = transformers.AutoConfig.for_model(**values)
    config._attn_implementation = attention_of(name)
    kind = getattr(transformers, CONFIGS[name]["architectures"][0])
    return move_parameters(kind(config).float().eval(), seed)


def attention_of(name: str) -> str:
    """The implementation that is right: the eager one of Falcon adds ALiBi twice."""
    return "sdpa" if name == "falcon_alibi" else "eager"


def move_parameters(model: Any, seed: int = 0) -> Any:
    """The model, every parameter and router bias drawn at random.

    Matrices keep the scale that makes the logits of order one; norms' scales, biases and tables are
    moved off their beginnings, so that a forgotten one shows.
    """
    generator = torch.Generator().manual_seed(seed)
    buffers = [pair for pair in model.named_buffers() if "correction_bias" in pair[0]]
    with torch.no_grad():
        for path, tensor in [*model.named_parameters(), *buffers]:
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim <= 1:
                tensor.add_(0.2 * noise)
                continue
            scale = 0.4 if tensor.shape[0] == 96 else tensor.shape[-1] ** -0.5
            # T5 does not divide attention's logits by anything; large ones magnify rounding.
            tensor.copy_(noise * (scale / 4 if path.endswith("Attention.q.weight") else scale))
    return model


def save_peer(model: Any, folder: pathlib.Path) -> None:
    """As users save it."""
    model.save_pretrained(folder)


def load_peer(name: str, folder: pathlib.Path) -> Any:
    """As users load it."""
    kind = getattr(transformers, CONFIGS[name]["architectures"][0])
    return kind.from_pretrained(
        folder, attn_implementation=attention_of(name), dtype=torch.float32
    ).eval()


def run_peer(model: Any, **arrays: np.ndarray) -> Any:
    """Its output for integer arrays, with all hidden states."""
    with torch.no_grad():
        given = {key: torch.from_numpy(np.asarray(x)).long() for key, x in arrays.items()}
        return model(**given, output_hidden_states=True, use_cache=False)


def shortened_peer(name: str, folder: pathlib.Path, num_layers: int) -> Any:
    """The model with its first layers alone."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    config.num_hidden_layers = num_layers
    if hasattr(config, "num_decoder_layers"):
        config.num_decoder_layers = num_layers
    kind = getattr(transformers, CONFIGS[name]["architectures"][0])
    return kind.from_pretrained(
        folder, config=config, attn_implementation=attention_of(name)
    ).eval()
