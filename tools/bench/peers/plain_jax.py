"""A GPT train step in plain JAX, the kind written in an hour: the peer that jaxgen must not lag."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from peers.config import PeerConfig

Parameters = dict


def build(config: PeerConfig) -> Callable[[], float]:
    """A step without arguments that trains on one fixed random batch and returns its loss."""
    optimizer = optax.adamw(1e-3, b1=0.9, b2=0.95, weight_decay=0.1, mask=is_matrix)
    parameters = initialise(config, jax.random.key(0))
    state = (parameters, optimizer.init(parameters))

    def train_step(state, tokens, targets):
        parameters, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, tokens, targets)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, updates), moments), loss

    random = np.random.default_rng(0)
    shape = (config.batch_size, config.length + 1)
    window = jnp.asarray(random.integers(0, config.vocab_size, shape, dtype=np.int32))
    compiled = jax.jit(train_step, donate_argnums=0)

    def step() -> float:
        nonlocal state
        state, loss = compiled(state, window[:, :-1], window[:, 1:])
        return float(loss)

    return step


def initialise(config: PeerConfig, key: jax.Array) -> Parameters:
    """Normal with standard deviation 0.02 everywhere, norms at the identity."""
    embed, heads = config.embed_dim, config.num_heads
    into_heads = (embed, heads, embed // heads)

    def normal(*shape: int):
        nonlocal key
        key, use = jax.random.split(key)
        return 0.02 * jax.random.normal(use, shape)

    def norm():
        return {"scale": jnp.ones(embed), "bias": jnp.zeros(embed)}

    def block():
        return {
            "attention_norm": norm(),
            "query": normal(*into_heads),
            "key": normal(*into_heads),
            "value": normal(*into_heads),
            "output": normal(heads, embed // heads, embed),
            "mlp_norm": norm(),
            "up": normal(embed, config.mlp_dim),
            "down": normal(config.mlp_dim, embed),
        }

    return {
        "tokens": normal(config.vocab_size, embed),
        "positions": normal(config.length, embed),
        "blocks": [block() for _ in range(config.num_layers)],
        "final_norm": norm(),
    }


def is_matrix(parameters: Parameters) -> Parameters:
    """Which parameters decay: all but the norms' vectors."""
    return jax.tree.map(lambda parameter: parameter.ndim > 1, parameters)


def layer_norm(norm: Parameters, x: jax.Array) -> jax.Array:
    """[..., embed] to zero mean and unit variance, then scaled and moved."""
    mean = x.mean(-1, keepdims=True)
    variance = x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * norm["scale"] + norm["bias"]


def attention(block: Parameters, x: jax.Array) -> jax.Array:
    """Causal self-attention, heads before positions. [batch, length, embed] to the same."""
    query, key, value = (
        jnp.einsum("btd,dhk->bhtk", x, block[name]) for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bhqk,bhsk->bhqs", query, key) * key.shape[-1] ** -0.5
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e30), axis=-1)
    mixed = jnp.einsum("bhqs,bhsk->bhqk", weights, value)
    return jnp.einsum("bhtk,hkd->btd", mixed, block["output"])


def loss_of(parameters: Parameters, tokens: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean cross-entropy of the next token. Both arrays are [batch, length] int32."""
    x = parameters["tokens"][tokens] + parameters["positions"]
    for block in parameters["blocks"]:
        x = x + attention(block, layer_norm(block["attention_norm"], x))
        hidden = layer_norm(block["mlp_norm"], x) @ block["up"]
        x = x + jax.nn.gelu(hidden) @ block["down"]
    logits = layer_norm(parameters["final_norm"], x) @ parameters["tokens"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
