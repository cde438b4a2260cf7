"""unCLIP's diffusion prior: a causal transformer that predicts a picture's vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgen.errors import DataError
from jaxgen.models.diffusion.base import Conditioning
from jaxgen.models.diffusion.conditions import pooled_of, sequence_of
from jaxgen.models.diffusion.embedders import Linear, TimeEmbedding
from jaxgen.models.diffusion.prior_config import AFTER_TEXT, PriorConfig
from jaxgen.models.parameters import Frozen, freeze, gather, make_parameter, project
from jaxgen.models.stack import Stack
from jaxgen.models.towers import run_tower
from jaxgen.ops.initializers import Initializer, normal, ones, zeros
from jaxgen.sharding.layout import current_layout, spec, using
from jaxgen.sharding.rules import reshard


class Prior(nnx.Module):
    """A stack over a caption, the time, a noisy vector and a token that is read.

    Rows are whole on each device: the length is not split.
    """

    def __init__(self, config: PriorConfig, rngs: nnx.Rngs):
        self.config = config
        stack, embed, channels = config.stack, config.stack.embed_dim, config.channels
        start = stack.initialization
        table = normal(start.embedding_stddev)
        rows = config.max_length + AFTER_TEXT
        self.positions = make_parameter(rngs, (rows, embed), (None, "embed"), table)
        self.token = make_parameter(rngs, (embed,), ("embed",), table)
        self.time = TimeEmbedding(embed, start, rngs, frequencies=embed)
        self.vector = Linear(channels, embed, start, rngs)
        self.pooled = Linear(config.pooled_dim, embed, start, rngs)
        self.context = Linear(config.context_dim, embed, start, rngs)
        self.stack = Stack(stack, rngs)
        out = normal(start.kernel_stddev(embed, channels))
        self.out = make_parameter(rngs, (embed, channels), ("embed", None), out)
        self.out_bias = make_parameter(rngs, (channels,), (None,), zeros)
        self.mean = self._statistic(zeros, rngs)
        self.stddev = self._statistic(ones, rngs)

    def _statistic(self, start: Initializer, rngs: nnx.Rngs) -> Frozen | None:
        if not self.config.statistics:
            return None
        return freeze(make_parameter(rngs, (self.config.channels,), (None,), start))

    def __call__(
        self,
        x: jax.Array,
        time: jax.Array,
        conditioning: Conditioning,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the prediction, [batch, 1, 1, channels]; see `Denoiser`."""
        with using(current_layout().with_whole_length()):
            return self._predict(x, time, conditioning, key)

    def _predict(self, x, time, conditioning: Conditioning, key) -> jax.Array:
        config, dtype = self.config, self.config.compute_dtype
        pooled, attended = pooled_of(config, conditioning), sequence_of(config, conditioning)
        if pooled is None or attended is None:
            raise DataError("a prior is told a caption's states and its vector.")
        states, there = attended
        batch, length = states.shape[:2]
        if length > config.max_length:
            raise DataError(
                f"a caption has {length} states, and prior.max_length={config.max_length}; cut it, "
                "or give the prior more positions."
            )
        rows = spec("batch", None, None)
        x = reshard(x, spec("batch", None, None, None))[:, 0].astype(dtype)
        token = jnp.zeros((batch, 1, 1), dtype) + gather(self.token, dtype)
        parts = (
            self.context(states),
            self.pooled(pooled),
            self.time(time, dtype),
            self.vector(x),
            reshard(token, rows),
        )
        table = gather(self.positions, dtype)
        x = jnp.concatenate(parts, axis=1)
        x = x + jnp.concatenate([table[:length], table[config.max_length :]])
        if there is not None:
            there = reshard(jnp.asarray(there, bool), spec("batch", None))
            there = jnp.pad(there, ((0, 0), (0, AFTER_TEXT)), constant_values=True)
        hidden, _ = run_tower(
            self.stack, x, key if config.stack.differs_in_training else None, there=there
        )
        y = project(hidden[:, -1:], self.out, self.out_bias)
        return y.astype(jnp.float32)[:, None]

    def embeddings(self, x: jax.Array) -> jax.Array:
        """Returns vectors [..., channels] with the mean and standard deviation put back."""
        if self.mean is None or self.stddev is None:
            return x
        return x * gather(self.stddev, x.dtype) + gather(self.mean, x.dtype)
