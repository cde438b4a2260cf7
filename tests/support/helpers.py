"""Small models and batches that several tests share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxgen.batch import Batch, EncoderInput
from jaxgen.configuration import load
from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh

MESHES = {
    "data": MeshConfig(data=8),
    "fsdp": MeshConfig(data=1, fsdp=8),
    "tensor": MeshConfig(data=2, tensor=4),
    "mixed": MeshConfig(data=1, fsdp=2, tensor=2, expert=2),
    "sequence": MeshConfig(data=2, sequence=2, tensor=2),
    "stage": MeshConfig(data=1, fsdp=2, tensor=2, stage=2),
}


def tiny_dense(**changes: Any) -> TransformerConfig:
    """A dense model that every mesh of MESHES divides."""
    base = TransformerConfig(
        num_layers=2,
        embed_dim=32,
        num_heads=8,
        num_kv_heads=4,
        head_dim=4,
        vocab_size=64,
        mlp_dim=64,
    )
    return dataclasses.replace(base, **changes)


ALL_BIASES = ("qkv", "attention_out", "feed_forward", "norm")


def tiny_gpt2(max_length: int = 32, **changes: Any) -> TransformerConfig:
    """Learned positions, LayerNorm, GELU and biases."""
    changes = {
        "layers": (LayerConfig(rope=None),),
        "embedding_positions": "learned",
        "max_length": max_length,
        "norm": "layer",
        "activation": "gelu_tanh",
        "gated": False,
        "biases": ALL_BIASES,
    } | changes
    return tiny_dense(**changes)


def tiny_moe(**changes: Any) -> TransformerConfig:
    """Every second layer sparse, eight experts."""
    moe = MoEConfig(num_experts=8, experts_per_token=2, mlp_dim=32, every=2)
    return tiny_dense(**({"num_layers": 4, "moe": moe} | changes))


def random_batch(
    seed: int = 0, batch_size: int = 8, length: int = 32, vocab_size: int = 64
) -> Batch:
    """Two segments and padding in every row, two tasks."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, vocab_size, (batch_size, length + 1)).astype(np.int32)
    first, second = length // 2, length // 3
    rest = length - first - second
    segments = np.repeat([1, 2, 0], [first, second, rest])
    positions = np.concatenate([np.arange(n) for n in (first, second, rest)])
    shape = (batch_size, length)
    return Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        loss_weights=np.broadcast_to(segments > 0, shape).astype(np.float32),
        positions=np.broadcast_to(positions, shape).astype(np.int32),
        segment_ids=np.broadcast_to(segments, shape).astype(np.int32),
        task_ids=np.broadcast_to(segments == 2, shape).astype(np.int32),
        task_names=("first", "second"),
    )


def one_device_mesh() -> jax.sharding.Mesh:
    """All axes of size 1."""
    return make_mesh(MeshConfig(data=1), jax.devices()[:1])


def build(config: TransformerConfig, layout: Layout | None = None, seed: int = 0) -> Transformer:
    """The model under the mesh in force."""
    layout = Layout() if layout is None else layout
    return jax.jit(lambda: Transformer(config, nnx.Rngs(seed), layout))()


def tiny_model(family: str) -> TransformerConfig:
    """The tiny member of a family of gin/models."""
    return load([f"models/{family}/tiny.gin"], root="model", beside=("next_token_loss",))


def objective_of(family: str) -> NextToken:
    """The objective that a family's files bind."""
    return load([f"models/{family}/tiny.gin"], root="next_token_loss", beside=("model",))


UNET_FAMILIES = frozenset(
    {
        "adm", "glide", "imagen", "stable_diffusion_1", "stable_diffusion_2",
        "stable_diffusion_xl", "unclip",
    }
)  # fmt: skip
"""Those with a U-Net."""

OTHER_FAMILIES = UNET_FAMILIES | {
    "clip", "codecs", "dit", "flux", "siglip", "stable_diffusion_3", "transfusion",
    "unclip_prior", "whisper",
}  # fmt: skip
"""The folders of gin/models whose models are no transformers over one stream of tokens."""


def families() -> list[str]:
    """The folders of gin/models, of transformers."""
    root = Path(__file__).parents[2] / "gin" / "models"
    found = {path.parent.name for path in root.glob("*/tiny.gin")}
    return sorted(found - OTHER_FAMILIES)


def one_row(length: int, vocab_size: int = 64, batch_size: int = 1) -> Batch:
    """Rows of one segment without padding."""
    batch = random_batch(0, batch_size, length, vocab_size)
    shape = (batch_size, length)
    return dataclasses.replace(
        batch,
        positions=np.broadcast_to(np.arange(length, dtype=np.int32), shape),
        segment_ids=np.ones(shape, np.int32),
        loss_weights=np.ones(shape, np.float32),
        task_ids=np.zeros(shape, np.int32),
        task_names=("first",),
    )


def source_of(batch: Batch, length: int) -> EncoderInput:
    """A source of `length` random tokens for every row, its end padding where rows have padding."""
    source = random_batch(7, batch.shape[0], length, int(np.max(batch.tokens)) + 1)
    whole = (np.asarray(batch.segment_ids) > 0).all()
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), source.shape)
    segments = np.full_like(source.segment_ids, np.max(batch.segment_ids))
    return EncoderInput(
        source.tokens,
        positions if whole else source.positions,
        segments if whole else source.segment_ids,
    )


def spread(model: Any, seed: int = 1) -> Any:
    """The model with every scale, bias and table moved from where it begins, so that each shows."""
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def random_model(config: TransformerConfig, seed: int = 0) -> Transformer:
    """A model whose every parameter is random, made without compiling anything."""
    random = np.random.default_rng(seed)

    def draw(leaf: Any) -> jax.Array:
        return jax.numpy.asarray(0.3 * random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(draw, abstract_model(config))


def layer_parameters(model: Any) -> dict[str, Any]:
    """Parameters as nested dicts of float64, the stack's blocks as a list in order of depth."""
    nested: dict[str, Any] = {}
    layers: list[dict[str, Any]] = [{} for _ in range(model.config.num_layers)]
    starts = np.cumsum([0] + [len(g.unit) * g.repeats for g in model.config.groups])
    for name, parameter in named_parameters(model):
        parts, value = name.split("."), np.asarray(parameter[...], np.float64)
        if parts[:2] != ["stack", "groups"]:
            _put(nested, [part for part in parts if part != "stack"], value)
            continue
        group, place = int(parts[2]), int(parts[4])
        unit = len(model.config.groups[group].unit)
        for repeat, one in enumerate(value):
            _put(layers[starts[group] + repeat * unit + place], parts[5:], one)
    return nested | {"layers": layers}


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
