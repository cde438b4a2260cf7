"""PyTorch's DataLoader over rows kept by Hugging Face `datasets`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import datasets
import torch


def torch_batches(rows: list[dict[str, list[int]]], batch_size: int) -> Iterator[Any]:
    """Shuffled batches of the rows, epoch after epoch."""
    packed = datasets.Dataset.from_list(rows).with_format("torch")
    loader = torch.utils.data.DataLoader(packed, batch_size, shuffle=True, drop_last=True)
    return itertools.chain.from_iterable(itertools.repeat(loader))
