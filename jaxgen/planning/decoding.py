"""One step of decoding: the next token of every sequence, with a key-value cache."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError
from jaxgen.generation.sampling import tokens_to_read
from jaxgen.models.cache import Cache, empty_cache
from jaxgen.models.config import TransformerConfig
from jaxgen.planning.compiling import Compiled, compile_step
from jaxgen.training.program import Program


def compile_decode_step(program: Program, cache: Any) -> Compiled:
    """Compiles a greedy step of decoding that continues the sequences of a cache.

    Args:
      program: on the devices to compile for.
      cache: as `abstract_cache` lays it out; its memory is used again.
    """
    layout = program.layout.with_whole_length()

    def step(model: Any, cache: Cache, tokens: jax.Array, positions: jax.Array) -> Any:
        ones = jnp.ones_like(tokens)[:, None]
        batch = tokens_to_read(tokens[:, None], positions[:, None], ones)
        model = model.with_layout(layout)
        output = model(batch, cache)
        return jnp.argmax(model.logits(output.hidden)[:, 0], axis=-1), output.cache

    sequences = cache.filled.shape[:1]
    sharding = jax.NamedSharding(program.mesh, layout.rules.activation("batch"))
    each = jax.ShapeDtypeStruct(sequences, jnp.int32, sharding=sharding)
    jitted = jax.jit(step, donate_argnums=1)
    return compile_step(program.mesh, jitted, program.abstract_state().model, cache, each, each)


def abstract_cache(program: Program, sequences: int, capacity: int) -> Any:
    """Returns the shapes of a cache of `sequences`, each of up to `capacity` tokens, on the mesh.

    Raises:
      ConfigError: if the model does not write text by itself.
    """
    config: Any = program.model
    if not isinstance(config, TransformerConfig) or config.has_encoder:
        raise ConfigError("--decode is for decoder-only transformers (run.model = @model()).")

    layout = program.layout.with_whole_length()
    return program.shapes_of(lambda: empty_cache(config, sequences, capacity, layout))
