"""Multi-head latent attention: keys and values from a narrow latent (DeepSeek-V2, 2405.04434)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.models.attention import attend_within, make_out, make_relative, project_out
from jaxgen.models.block_config import LatentConfig
from jaxgen.models.cache import KeyValue
from jaxgen.models.context import AttentionContext
from jaxgen.models.norms import Norm
from jaxgen.models.parameters import kernel, make_parameter, multiply, project
from jaxgen.models.stack_config import BlockKind, StackConfig
from jaxgen.ops.slots import write_both
from jaxgen.ops.taps import report
from jaxgen.sharding.layout import spec
from jaxgen.sharding.rules import reshard


class LatentAttention(nnx.Module):
    """A module used like `Attention`; its cache holds latents and the heads' shared rotary key."""

    def __init__(
        self,
        kind: BlockKind,
        config: StackConfig,
        latent: LatentConfig,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.latent = latent
        self.layer = kind.layer
        embed, heads = config.embed_dim, config.num_heads
        width = latent.nope_dim + latent.rope_dim

        def matrix(*shape, axes):
            start = kernel(config, shape[0], heads * width, axes)
            return make_parameter(rngs, shape, axes, start)

        rank, narrow = latent.query_rank, ("embed", "rank")
        wide, from_stream = ("rank", "heads", "head_dim"), ("embed", "heads", "head_dim")
        direct = rank is None
        self.query = matrix(embed, heads, width, axes=from_stream) if direct else None
        self.query_down = None if direct else matrix(embed, rank, axes=narrow)
        self.query_norm = None if direct else Norm(config, rngs, (rank,), ("rank",))
        self.query_up = None if direct else matrix(rank, heads, width, axes=wide)
        self.kv_down = matrix(embed, latent.kv_rank + latent.rope_dim, axes=narrow)
        self.kv_norm = Norm(config, rngs, (latent.kv_rank,), ("rank",))
        both = latent.nope_dim + latent.value_dim
        self.kv_up = matrix(latent.kv_rank, heads, both, axes=wide)
        self.out = make_out(config, rngs, latent.value_dim)
        self.relative = make_relative(config, rngs, per_layer=True)

    def __call__(
        self,
        x: jax.Array,
        context: AttentionContext,
        cached: KeyValue | None = None,
        attended: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValue | None]:
        """Attends as `Attention` does, to `x` alone; `cached` is latents and rotary keys."""
        del attended
        latent = self.latent
        if self.query_down is None or self.query_norm is None:
            query = self._heads(x, self.query)
        else:
            query = self._heads(self.query_norm(project(x, self.query_down)), self.query_up)
        joint = project(x, self.kv_down)
        latents = self.kv_norm(joint[..., : latent.kv_rank])[:, None]
        shared_key = joint[:, None, :, latent.kv_rank :]
        if context.angles is not None and self.layer.rope is not None:
            nope, turned = query[..., : latent.nope_dim], query[..., latent.nope_dim :]
            turned = self.layer.rope.rotate(turned, context.angles)
            query = jnp.concatenate([nope, turned], axis=-1)
            shared_key = self.layer.rope.rotate(shared_key, context.angles)
        split = spec("batch", None, context.keys_length, None)
        key_value = reshard(latents, split), reshard(shared_key, split)
        if cached is not None:
            key_value = write_both(cached, key_value, context.slots)
        latents, shared_key = key_value
        both = self._heads(latents[:, 0], self.kv_up, context.keys_length)
        keys, values = both[..., : latent.nope_dim], both[..., latent.nope_dim :]
        per_head = (*keys.shape[:3], latent.rope_dim)
        layout = spec("batch", "heads", context.keys_length, None)
        shared_key = reshard(jnp.broadcast_to(shared_key, per_head), layout)
        keys = jnp.concatenate([keys, shared_key], axis=-1)
        mixed = attend_within(self.config, context, query, keys, values, self.relative, key)
        return report("attention", project_out(self.config, mixed, self.out, None)), key_value

    def _heads(self, x, weight, length: str | None = "length"):
        n_in, heads, width = weight.shape
        layout = spec("batch", length, "heads")
        dtype, shape = self.config.matmul_dtype, (n_in, heads * width)
        y = multiply("btd,df->btf", x, weight, layout, dtype, shape)
        return y.reshape(*x.shape[:2], heads, width).transpose(0, 2, 1, 3)
