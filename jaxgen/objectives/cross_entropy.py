"""Cross-entropy over a large vocabulary without the full logits.

The logits of a few positions at a time are made in float32, and the gradient of those positions is
computed in the same pass, so that neither pass holds [batch, length, vocab] and the backward pass
multiplies by one number. The vocabulary may be split over mesh axes; each shard then keeps its
columns and only per-token sums travel.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.objectives.positions import join_positions, split_positions
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.rules import Rules, mesh_is_set, varying

LOGITS_AT_A_TIME = 2**23
"""Entries of the block of float32 logits that one device holds (32 MiB), if that is enough."""
POSITIONS_AT_A_TIME = 2048
"""Positions that have their logits at once, whatever the vocabulary.

Each block reads and writes the whole gradient of the table: 8 bytes an entry, for 2 operations a
position. Accelerators compute 200 to 300 operations in the time of a byte, so that fewer positions
than about 1,000 would have them wait for memory.
"""


@dataclasses.dataclass(frozen=True)
class _Settings:
    z_loss: float
    label_smoothing: float
    soft_cap: float | None
    vocab_axes: tuple[str, ...]
    chunk: int
    vocab_size: int
    is_padded: bool


class TokenLosses(NamedTuple):
    """The figures of each position, without gradient: [batch, length] float32."""

    negative_log_likelihood: Any
    correct: Any


def cross_entropy(
    hidden: jax.Array,
    table: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    bias: jax.Array | None = None,
    rules: Rules,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    soft_cap: float | None = None,
    vocab_size: int | None = None,
    positions_at_a_time: int | None = None,
) -> tuple[jax.Array, TokenLosses]:
    """Returns the weighted sum of negative log-likelihoods, and each position's own.

    Args:
      hidden: [batch, length, embed].
      table: [vocab, embed], whole over embed; logits are hidden @ table.T.
      targets: [batch, length] int32.
      weights: [batch, length] float32.
      bias: [vocab] float32, added to the logits before the cap.
      rules: the layout of the above.
      z_loss: weight of log(Z)^2, added to each position's loss (PaLM, 2204.02311, 5).
      label_smoothing: share of the target's probability that is spread over the whole vocabulary in
        what is minimised (1512.00567, 7); the positions' own figures do without.
      soft_cap: logits become cap * tanh(logits / cap).
      vocab_size: rows of the table before those that only pad it (None: all); the padding has no
        probability.
      positions_at_a_time: of all rows, whose logits a device holds at once; None: as the two
        constants above say.

    Returns:
      The scalar sum over positions of weight * (nll + z_loss * log(Z)^2), differentiable in
      `hidden`, `table` and `bias`; and the per-position figures (correct is 1 where the target has
      the largest logit).
    """
    batch_axes = axis_names(rules.batch) + axis_names(rules.length)
    vocab_axes = axis_names(rules.vocab)
    size = table.shape[0] if vocab_size is None else vocab_size
    is_padded = size < table.shape[0]

    def local(hidden, table, targets, weights, bias):
        rows, length = targets.shape
        most = positions_at_a_time or max(POSITIONS_AT_A_TIME, LOGITS_AT_A_TIME // table.shape[0])
        chunk = max(1, min(length, most // rows))
        settings = _Settings(
            z_loss, label_smoothing, soft_cap, vocab_axes if mesh_is_set() else (), chunk, size,
            is_padded,
        )  # fmt: skip
        if mesh_is_set():
            # Cast here, each gradient is summed over the other axes once, after the chunks.
            table, bias = (None if x is None else varying(x, batch_axes) for x in (table, bias))
            hidden = varying(hidden, vocab_axes)
        result: Any = _local_cross_entropy(settings, hidden, table, bias, targets, weights)
        loss, token_losses = result
        if mesh_is_set():
            loss = jax.lax.psum(loss, batch_axes)
        return loss, token_losses

    if not mesh_is_set():
        return local(hidden, table, targets, weights, bias)
    tokens = rules.activation("batch", "length")
    return jax.shard_map(
        local,
        in_specs=(
            rules.activation("batch", "length", None),
            jax.P(rules.vocab, None),
            tokens,
            tokens,
            None if bias is None else jax.P(rules.vocab),
        ),
        out_specs=(jax.P(), TokenLosses(tokens, tokens)),
    )(hidden, table, targets, weights, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _local_cross_entropy(settings, hidden, table, bias, targets, weights) -> Any:
    def step(loss, chunk):
        chunk_loss, token_losses, _ = _chunk(settings, table, bias, *chunk)
        return loss + chunk_loss, token_losses

    chunks = tuple(split_positions(x, settings.chunk) for x in (hidden, targets, weights))
    loss, token_losses = jax.lax.scan(step, _zero_like_sum(weights), chunks)
    return loss, TokenLosses(*(join_positions(x, targets.shape[1]) for x in token_losses))


def _forward(settings, hidden, table, bias, targets, weights):
    def step(carry, chunk):
        loss, table_gradient, bias_gradient = carry
        chunk_loss, token_losses, logits_gradient = _chunk(settings, table, bias, *chunk)
        if bias is not None:
            bias_gradient += jnp.sum(logits_gradient, axis=(0, 1))
        logits_gradient = logits_gradient.astype(hidden.dtype)
        hidden_gradient = jnp.einsum("btv,vd->btd", logits_gradient, table)
        table_gradient += jnp.einsum(
            "btv,btd->vd", logits_gradient, chunk[0], preferred_element_type=jnp.float32
        )
        carry = loss + chunk_loss, table_gradient, bias_gradient
        return carry, (token_losses, hidden_gradient)

    chunks = tuple(split_positions(x, settings.chunk) for x in (hidden, targets, weights))
    # A sum of the inputs' zeros has the mesh axes over which the carry will vary.
    start = jnp.zeros(table.shape, jnp.float32) + 0 * (
        table[0, 0].astype(jnp.float32) + hidden[0, 0, 0].astype(jnp.float32)
    )
    carry = (_zero_like_sum(weights), start, None if bias is None else start[:, 0])
    carry, (token_losses, hidden_gradient) = jax.lax.scan(step, carry, chunks)
    loss, table_gradient, bias_gradient = carry
    length = targets.shape[1]
    token_losses = TokenLosses(*(join_positions(x, length) for x in token_losses))
    table_gradient = table_gradient.astype(table.dtype)
    residuals = (join_positions(hidden_gradient, length), table_gradient, bias_gradient)
    return (loss, token_losses), residuals


def _backward(settings, residuals, cotangents):
    del settings
    scale, _ = cotangents
    return *(None if x is None else x * scale.astype(x.dtype) for x in residuals), None, None


_local_cross_entropy.defvjp(_forward, _backward)


def _zero_like_sum(weights):
    return 0.0 * weights[0, 0]


def _chunk(settings, table, bias, hidden, targets, weights):
    """Loss, per-token losses and the gradient of the logits of one chunk of positions."""
    axes = settings.vocab_axes
    logits = jnp.einsum("btd,vd->btv", hidden, table, preferred_element_type=jnp.float32)
    logits = logits if bias is None else logits + bias
    slope = None
    if settings.soft_cap is not None:
        bent = jnp.tanh(logits / settings.soft_cap)
        logits, slope = settings.soft_cap * bent, 1 - jnp.square(bent)
    first = jax.lax.axis_index(axes) * table.shape[0] if axes else 0
    columns, column = jnp.arange(table.shape[0]), (targets - first)[..., None]
    held = None
    if settings.is_padded:
        held = columns + first < settings.vocab_size
        logits = jnp.where(held, logits, -jnp.inf)
    is_target = columns == column
    largest = jnp.max(logits, axis=-1)
    is_here = (column >= 0) & (column < len(columns))
    target_logit = jnp.take_along_axis(logits, jnp.where(is_here, column, 0), axis=-1)
    target_logit = jnp.where(is_here, target_logit, 0.0)[..., 0]
    if axes:
        largest = jax.lax.pmax(largest, axes)
        target_logit = jax.lax.psum(target_logit, axes)
    exponentials = jnp.exp(logits - largest[..., None])
    normaliser = jnp.sum(exponentials, axis=-1)
    if axes:
        normaliser = jax.lax.psum(normaliser, axes)
    log_normaliser = jnp.log(normaliser) + largest
    nll = log_normaliser - target_logit
    smoothing = settings.label_smoothing
    penalty = settings.z_loss * jnp.square(log_normaliser)
    if smoothing:
        total = jnp.sum(logits, axis=-1, where=held)
        total = jax.lax.psum(total, axes) if axes else total
        penalty += smoothing * (target_logit - total / settings.vocab_size)
    loss = jnp.sum(weights * (nll + penalty))
    factor = weights * (1 + 2 * settings.z_loss * log_normaliser)
    gradient = exponentials * (factor / normaliser)[..., None]
    gradient = gradient - jnp.where(is_target, (1 - smoothing) * weights[..., None], 0.0)
    if smoothing:
        even = smoothing / settings.vocab_size * weights[..., None]
        gradient = gradient - (even if held is None else jnp.where(held, even, 0.0))
    if slope is not None:
        gradient = gradient * slope
    correct = (target_logit >= largest).astype(jnp.float32)
    return loss, TokenLosses(nll, correct), gradient
