"""Ring attention: no device ever holds more keys than it has queries (2310.01889).

Each device keeps its part of the length. Keys and values go round the devices that split it, and
each takes what its queries may attend to of those that pass; their gradients go round with them.

Where no query attends to a later key, the devices' parts are exchanged first, so that each holds
one from the front and one from the back ("zigzag"): every device then has as many keys to take at
every turn. Blocks that the mask rules out by distance are left out, whoever's they are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.ops.attention.blocks import (
    Operands,
    Settings,
    Tokens,
    add_block,
    as_gradients,
    block,
    differentiate_block,
    fold_block,
    outcome_of,
    put_block,
    settings_and_bias,
    told_late,
    zeros_like,
)
from jaxgen.ops.attention.call import AttentionCall
from jaxgen.ops.attention.masks import AttentionMask, looks_ahead, may_allow
from jaxgen.ops.attention.on_devices import on_each_device
from jaxgen.ops.attention.online import RunningSoftmax, finish, start

LARGEST_BLOCK = 256
"""Queries and keys of a block at most: the largest divisor of a device's part up to here."""


def ring_refusal(call: AttentionCall) -> str | None:
    """Returns why keys cannot be passed round for a call, or None."""
    if call.drops:
        return "which weights are dropped would depend on the blocks"
    if call.query.shape[2] != call.key.shape[2]:
        return "queries and keys are not the same tokens"
    return None


def ring_attention(call: AttentionCall) -> jax.Array:
    """Attends with logits and softmax in float32; a query without any key gets 0.

    Args:
      call: self-attention of a row, queries and keys split along their length alike.

    Returns:
      [batch, heads, queries, value_dim], split as the queries are.
    """
    settings, bias, places = settings_and_bias(call, call.key.shape[2])
    operands = (call.key, call.value, call.sinks, bias)
    compute = functools.partial(_ring_on_device, settings, call.key_axes)
    return on_each_device(compute, call.query, operands, call.mask, places)


@dataclasses.dataclass(frozen=True)
class _Ring:
    """A ring of devices, of which each has `num_chunks` runs of consecutive places.

    Attributes:
      axes: of the mesh, which split the length.
      chunk: the places of a run.
      num_chunks: 2 in zigzag order, else 1.
      predicates: of the mask.
      settings: of the blocks.
    """

    axes: tuple[str, ...]
    chunk: int
    num_chunks: int
    predicates: tuple[Any, ...]
    settings: Settings

    @property
    def num_devices(self) -> int:
        """The devices of the ring."""
        return jax.lax.axis_size(self.axes)

    def first_places(self, turn, size: int) -> jax.Array:
        """Returns the first place of each block of `size` that a device has after some turns."""
        device = (jax.lax.axis_index(self.axes) - turn) % self.num_devices
        chunks = jnp.stack([device, 2 * self.num_devices - 1 - device][: self.num_chunks])
        offsets = jnp.arange(0, self.chunk, size)
        return (chunks[:, None] * self.chunk + offsets).reshape(-1)

    def turned(self, passed: Any) -> Any:
        """Returns what the neighbour had, of a pytree."""
        count = self.num_devices
        pairs = [(i, (i + 1) % count) for i in range(count)]
        return jax.tree.map(lambda x: jax.lax.ppermute(x, self.axes, pairs), passed)


class _Passed(NamedTuple):
    """What goes round: keys, values, which tokens they are, and places that a bias is by."""

    key: Any
    value: Any
    side: Any
    places: Any


def _ring_on_device(
    settings: Settings, axes: tuple[str, ...], query, operands, mask: AttentionMask, places
) -> jax.Array:
    key, value, sinks, bias = operands
    batch, heads, queries, head_dim = query.shape
    kv_heads, count = key.shape[1], jax.lax.axis_size(axes)
    zigzag = not looks_ahead(mask.predicates) and queries % 2 == 0 and count > 1
    chunk = queries // 2 if zigzag else queries
    size = max(d for d in range(1, min(chunk, LARGEST_BLOCK) + 1) if chunk % d == 0)
    settings = dataclasses.replace(settings, sizes=(size, size))
    ring = _Ring(axes, chunk, 2 if zigzag else 1, mask.predicates, settings)
    if zigzag:
        query, key, value = (_to_zigzag(x, axes, 2) for x in (query, key, value))
        mask, places = jax.tree.map(lambda x: _to_zigzag(x, axes, 1), (mask, places))
    query = query.reshape(batch, kv_heads, heads // kv_heads, queries, head_dim)
    sinks = None if sinks is None else sinks.reshape(kv_heads, -1)
    tokens = Tokens(mask, *(places or (None, None)))
    out: jax.Array = _attend(ring, Operands(query, key, value, sinks, bias), tokens)
    out = out.reshape(batch, heads, queries, -1)
    return _from_zigzag(out, axes, 2) if zigzag else out


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(ring: _Ring, operands: Operands, tokens: Tokens) -> jax.Array:
    return _forward(ring, operands, tokens)[0]


def _forward(ring: _Ring, operands: Operands, tokens: Tokens):
    def take(running: RunningSoftmax, passed: _Passed, turn):
        near = _near(ring, turn)
        ours, theirs = _with_passed(operands, tokens, passed)

        def step(running: RunningSoftmax, pair):
            i, j = pair
            part = jax.tree.map(lambda x: block(x, i, ring.settings.sizes[0], 3), running)
            fold = functools.partial(fold_block, ring.settings, ours, theirs)
            part = jax.lax.cond(near(i, j), lambda part: fold(part, i, j), lambda part: part, part)
            return jax.tree.map(lambda x, new: put_block(x, new, i, 3), running, part), None

        return jax.lax.scan(step, running, told_late(_pairs(ring, operands), ours.query))[0]

    def turn(carry, number):
        running, passed = carry
        # Sent before what is here is used, so that the two may overlap.
        coming = ring.turned(passed)
        return (take(running, passed, number), coming), None

    begun = start(operands.query, operands.value.shape[-1])
    passed = _Passed(operands.key, operands.value, tokens.mask.keys, tokens.keys)
    last = ring.num_devices - 1
    (running, passed), _ = jax.lax.scan(turn, (begun, passed), jnp.arange(last))
    out, log_total = finish(take(running, passed, last), operands.sinks)
    out = out.astype(operands.value.dtype)
    return out, (operands, tokens, out, log_total)


def _backward(ring: _Ring, saved, gradient: jax.Array):
    operands, tokens, out, log_total = saved
    outcome = outcome_of(out, log_total, gradient)

    def add(sums: Operands, passed: _Passed, turn) -> Operands:
        near = _near(ring, turn)
        ours, theirs = _with_passed(operands, tokens, passed)

        def step(sums: Operands, pair):
            i, j = pair
            of_pair = functools.partial(differentiate_block, ring.settings, ours, theirs, outcome)
            nothing = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_pair, i, j)
            )
            parts = jax.lax.cond(near(i, j), lambda: of_pair(i, j), lambda: nothing)
            return add_block(ring.settings, sums, parts, i, j), None

        return jax.lax.scan(step, sums, told_late(_pairs(ring, operands), gradient))[0]

    def turn(carry, number):
        sums, passed = carry
        coming = ring.turned(passed)
        sums = add(sums, passed, number)
        return (_with_turned(ring, sums), coming), None

    passed = _Passed(operands.key, operands.value, tokens.mask.keys, tokens.keys)
    last = ring.num_devices - 1
    (sums, passed), _ = jax.lax.scan(turn, (zeros_like(operands), passed), jnp.arange(last))
    # The last turn brings the gradients home.
    sums = _with_turned(ring, add(sums, passed, last))
    return as_gradients(sums, operands, outcome), None


_attend.defvjp(_forward, _backward)


def _with_passed(operands: Operands, tokens: Tokens, passed: _Passed) -> tuple[Operands, Tokens]:
    mask = dataclasses.replace(tokens.mask, keys=passed.side)
    return operands._replace(key=passed.key, value=passed.value), Tokens(
        mask, tokens.queries, passed.places
    )


def _with_turned(ring: _Ring, sums: Operands) -> Operands:
    key, value = ring.turned((sums.key, sums.value))
    return sums._replace(key=key, value=value)


def _near(ring: _Ring, turn) -> Callable[[Any, Any], jax.Array]:
    """Returns a function of two blocks: whether some of the keys may be allowed."""
    queries, keys = ring.settings.sizes
    own, passed = ring.first_places(0, queries), ring.first_places(turn, keys)

    def near(i, j) -> jax.Array:
        behind = own[i] - passed[j] + jnp.arange(1 - keys, queries)
        return jnp.any(may_allow(ring.predicates, behind))

    return near


def _pairs(ring: _Ring, operands: Operands) -> tuple[np.ndarray, np.ndarray]:
    """Returns all pairs of a block of queries and one of keys."""
    queries, keys = ring.settings.sizes
    shape = operands.query.shape[3] // queries, operands.key.shape[2] // keys
    i, j = np.indices(shape, np.int32)
    return i.reshape(-1), j.reshape(-1)


def _to_zigzag(x: jax.Array, axes: tuple[str, ...], axis: int) -> jax.Array:
    """Returns a device's runs d and 2n - 1 - d of the 2n, of its runs 2d and 2d + 1."""
    count = jax.lax.axis_size(axes)
    even, odd = (
        jax.lax.ppermute(half, axes, list(enumerate(to)))
        for half, to in zip(jnp.split(x, 2, axis), _homes(count), strict=True)
    )
    is_even = jax.lax.axis_index(axes) % 2 == 0
    return jnp.concatenate([jnp.where(is_even, *p) for p in ((even, odd), (odd, even))], axis)


def _from_zigzag(x: jax.Array, axes: tuple[str, ...], axis: int) -> jax.Array:
    count = jax.lax.axis_size(axes)
    front, back = jnp.split(x, 2, axis)
    is_even = jax.lax.axis_index(axes) % 2 == 0
    halves = jnp.where(is_even, front, back), jnp.where(is_even, back, front)
    return jnp.concatenate(
        [
            jax.lax.ppermute(half, axes, [(to, i) for i, to in enumerate(homes)])
            for half, homes in zip(halves, _homes(count), strict=True)
        ],
        axis,
    )


def _homes(count: int) -> Sequence[Sequence[int]]:
    """Returns the device of run 2d, and that of run 2d + 1, for every device d."""

    def home(run: int) -> int:
        return run if run < count else 2 * count - 1 - run

    return [[home(2 * d + odd) for d in range(count)] for odd in (0, 1)]
