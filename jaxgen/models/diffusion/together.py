"""The module of several conditioners that tell a denoiser together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.prompts import Prompts
from jaxgen.models.diffusion.together_config import TogetherConfig, drops_of
from jaxgen.sharding.layout import Layout, spec
from jaxgen.sharding.rules import reshard


class Together(nnx.Module):
    """Several conditioners: sequences are joined as is configured, vectors laid side by side."""

    def __init__(self, config: TogetherConfig, rngs: nnx.Rngs, layout: Layout):
        self.config = config
        self.parts = nnx.List([one.build(rngs, layout) for one in config.parts])

    def __call__(
        self, prompts: Prompts, keep: jax.Array, key: jax.Array | None = None
    ) -> Conditioning:
        """Returns what all of them say; `keep` is [parts, batch], of parts' own parts each."""
        found, first = [], 0
        for part, config in zip(self.parts, self.config.parts, strict=True):
            own = keep[first : first + len(drops_of(config))]
            first += len(own)
            found.append(part(prompts, own if isinstance(config.drops, tuple) else own[0], key))
        told = [one for one in found if one.sequence is not None]
        pooled = [one.pooled for one in found if one.pooled is not None]
        join = _side_by_side if self.config.join == "width" else _one_after_another
        sequence, mask = join(told) if told else (None, None)
        return Conditioning(
            sequence=sequence,
            mask=mask,
            pooled=jnp.concatenate(pooled, axis=-1) if pooled else None,
        )

    def adopt(self, parent: Any) -> Together:
        """Returns this with a parent's parameters in each part that can take them."""
        found = jax.tree.map(lambda leaf: leaf, self)
        found.parts = nnx.List(
            [one.adopt(parent) if hasattr(one, "adopt") else one for one in self.parts]
        )
        return found


def _one_after_another(told: list[Conditioning]) -> tuple[jax.Array, jax.Array | None]:
    """Returns sequences joined along the length, and their masks if there are any."""
    width = max(one.sequence.shape[-1] for one in told)
    wide = [
        jnp.pad(one.sequence, ((0, 0), (0, 0), (0, width - one.sequence.shape[-1]))) for one in told
    ]
    sequence = jnp.concatenate(wide, axis=1)
    if all(one.mask is None for one in told):
        return sequence, None
    masks = [
        jnp.ones(one.sequence.shape[:2], bool) if one.mask is None else one.mask for one in told
    ]
    return sequence, jnp.concatenate([reshard(one, spec("batch", None)) for one in masks], axis=1)


def _side_by_side(told: list[Conditioning]) -> tuple[jax.Array, jax.Array | None]:
    """Returns sequences joined along the width; a place is there if it is in one of them."""
    masked = [
        one.sequence if one.mask is None else jnp.where(one.mask[..., None], one.sequence, 0)
        for one in told
    ]
    sequence = jnp.concatenate(masked, axis=-1)
    if any(one.mask is None for one in told):
        return sequence, None
    masks = jnp.stack([reshard(one.mask, spec("batch", None)) for one in told])
    return sequence, masks.any(axis=0)
