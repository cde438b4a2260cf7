"""Tokens' way to experts on other devices and back, by all-to-all inside shard_map.

Each device has a fixed number of slots for every other one, so that shapes are static. Where more
assignments than slots may go to one device, they are exchanged in rounds: the first is an ordinary
part of the program, which is all there is while loads are even enough; a loop, mostly of no turns,
works through the others, so that nothing is ever dropped for want of slots.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.errors import ConfigError
from jaxgen.ops.dispatch import Dispatch, count_ranks, from_rows, pack_rows, place
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.ops.routing import most_assignments
from jaxgen.sharding.layout import ExpertExchange
from jaxgen.sharding.rules import compiled_for

_LOGGER = logging.getLogger(__name__)

SPARE = 1.5
"""Slots over an even share of the assignments, unless a capacity bounds them lower."""

HELD = 0.05
"""What a row that is held costs, beside one that travels over links, which are slower than memory.

On CPU both are copies (`tools/bench/expert_exchange.py` shows that they cost about the same there).
"""

Compute = Callable[[jax.Array, jax.Array, Any], jax.Array]
"""What the experts here make of [slots, width] and each slot's expert, counted from the first."""


class Exchange(NamedTuple):
    """An exchange tells how the devices of a group send one another their tokens.

    Attributes:
      axes: the mesh axes over which the experts are split, and tokens as well.
      all_axes: all axes over which tokens are split.
      parts: devices of a group.
      num_here: experts of each device.
      slots: assignments that one device sends another in a round.
      may_overflow: whether one round may not be enough.
      ragged: whether only filled slots travel.
    """

    axes: tuple[str, ...]
    all_axes: tuple[str, ...]
    parts: int
    num_here: int
    slots: int
    may_overflow: bool
    ragged: bool


def choose_exchange(
    demanded: ExpertExchange,
    moe: MoEConfig,
    rows: int,
    length: int,
    limits_capacity: bool,
    expert_axes: dict[str, int],
    token_axes: tuple[str, ...],
) -> Exchange | None:
    """Returns how assignments are exchanged, or None where tokens are gathered instead.

    By itself it takes the way on which fewer rows travel and are held. Gathering brings each device
    all tokens of its group and makes room for all that may choose its experts; exchanging sends
    each assignment to one device.

    Args:
      demanded: the layout's `expert_exchange`.
      moe: how tokens are routed.
      rows: of this device's tokens.
      length: of each.
      limits_capacity: whether an expert takes at most its capacity.
      expert_axes: over which experts are split, and their sizes.
      token_axes: over which tokens are split.

    Raises:
      ConfigError: if an exchange is demanded where devices of a group have the same tokens.
    """
    parts = math.prod(expert_axes.values())
    if parts == 1:
        return None
    if not set(expert_axes) <= set(token_axes):
        if demanded == "all_to_all":
            raise ConfigError(
                f"execution.expert_exchange='all_to_all' needs tokens that are split over the mesh "
                f"axes of the experts, {tuple(expert_axes)}; rules.batch and rules.length split "
                f"them over {token_axes}. Add the axes to rules.batch, or set it to 'gather'."
            )
        return None
    tokens, num_here = rows * length, moe.num_experts // parts
    most = most_assignments(moe, rows, length, num_here, limits_capacity)
    even = min(tokens * moe.experts_per_token / parts, most)
    slots = min(most, math.ceil(SPARE * even))
    on_cpu = compiled_for() == "cpu"
    weight = 1.0 if on_cpu else HELD
    cost_of_exchange = parts * ((slots if on_cpu else even) + weight * slots)
    cost_of_gather = parts * (tokens + weight * most)
    kind = demanded
    if demanded == "auto":
        kind = "all_to_all" if cost_of_exchange < cost_of_gather else "gather"
    _log(kind, demanded, round(cost_of_exchange), round(cost_of_gather), slots < most)
    if kind == "gather":
        return None
    axes = tuple(expert_axes)
    return Exchange(axes, token_axes, parts, num_here, slots, slots < most, not on_cpu)


@functools.cache
def _log(kind: str, demanded: str, exchange: int, gather: int, may_overflow: bool) -> None:
    _LOGGER.info(
        "tokens reach experts on other devices by %r (%s): exchanging costs each device %d rows, "
        "gathering %d.%s",
        kind,
        "the cheaper" if demanded == "auto" else "demanded",
        exchange,
        gather,
        " What there are no slots for is sent in further rounds; nothing is dropped for that."
        if kind == "all_to_all" and may_overflow
        else "",
    )


def exchange_and_compute(
    x: jax.Array,
    experts: jax.Array,
    shares: jax.Array,
    weights: Any,
    exchange: Exchange,
    weigh: str,
    compute: Compute,
) -> jax.Array:
    """Sends tokens to their experts, which compute, and sums what comes back.

    Args:
      x: [tokens, width] of this device.
      experts: [tokens, choices] int32, past the last expert for none.
      shares: [tokens, choices], each expert's weight.
      weights: of the experts that are here, a pytree.
      exchange: how.
      weigh: whether shares multiply the experts' "output" or their "input".
      compute: of the slots and `weights`.

    Returns:
      [tokens, width].
    """
    parts = exchange.parts
    destinations = jnp.minimum(experts // exchange.num_here, parts)
    ranks, counts = count_ranks(destinations, parts)
    plan = _Plan(experts, destinations, ranks, counts)

    def one_round(turn, plan, operands):
        x, shares, weights = operands
        slots = _slots(plan, exchange, turn)
        sent = jnp.clip(plan.counts - turn * exchange.slots, 0, exchange.slots)
        rows, after = pack_rows(x, shares, slots, weigh)
        flat = plan.experts.reshape(-1)
        # Empty slots name no expert here.
        ids = flat.at[slots.assignment_of].get(mode="fill", fill_value=0) % exchange.num_here
        ids = jnp.where(slots.assignment_of < flat.shape[0], ids, exchange.num_here)
        received = jax.lax.all_to_all(sent, exchange.axes, 0, 0, tiled=True)
        ids = jax.lax.all_to_all(ids, exchange.axes, 0, 0, tiled=True)
        rows = _swap(rows, sent, received, exchange)
        rows = _swap(compute(rows, ids, weights), received, sent, exchange)
        return from_rows(rows, after, slots)

    operands = (x, shares, weights)
    y = one_round(0, plan, operands)
    if not exchange.may_overflow:
        return y
    # All devices take as many turns: they meet in each.
    turns = jax.lax.pmax(-(-jnp.max(counts) // exchange.slots), exchange.all_axes)
    further: Any = _further_rounds(one_round, turns, plan, operands)
    return y + further


class _Plan(NamedTuple):
    """The experts and destinations [tokens, choices], places in their queues, and queues' sizes."""

    experts: jax.Array
    destinations: jax.Array
    ranks: jax.Array
    counts: jax.Array


def _slots(plan: _Plan, exchange: Exchange, turn: Any) -> Dispatch:
    """Returns which assignment is in which slot, [parts * slots], in a round."""
    num_slots = exchange.parts * exchange.slots
    rank = plan.ranks - turn * exchange.slots
    goes = (plan.destinations < exchange.parts) & (rank >= 0) & (rank < exchange.slots)
    return place(jnp.where(goes, plan.destinations * exchange.slots + rank, num_slots), num_slots)


def _swap(rows, sent, received, exchange: Exchange) -> jax.Array:
    """Sends the slots for each device of the group to it: [parts * slots, width]."""
    if not exchange.ragged:
        return jax.lax.all_to_all(rows, exchange.axes, 0, 0, tiled=True)
    # Each one's slots lie at the same place with everyone else, as they do without raggedness.
    first = jnp.arange(sent.shape[0], dtype=jnp.int32) * exchange.slots
    own = jnp.full_like(sent, 1) * jax.lax.axis_index(exchange.axes) * exchange.slots
    return jax.lax.ragged_all_to_all(
        rows, jnp.zeros_like(rows), first, sent, own, received, axis_name=exchange.axes
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _further_rounds(one_round, turns, plan, operands):
    """Returns the sum of `one_round(turn, plan, operands)` of turns 1, 2 ... up to `turns`."""

    def add(turn, total):
        return total + one_round(turn, plan, operands)

    shape = jax.eval_shape(one_round, 0, plan, operands)
    return jax.lax.fori_loop(1, turns, add, jnp.zeros_like(operands[0], shape.dtype))


def _forward(one_round, turns, plan, operands):
    return _further_rounds(one_round, turns, plan, operands), (turns, plan, operands)


def _backward(one_round, saved, gradient):
    turns, plan, operands = saved

    def add(turn, totals):
        _, pull_back = jax.vjp(functools.partial(one_round, turn, plan), operands)
        return jax.tree.map(jnp.add, totals, pull_back(gradient)[0])

    totals = jax.lax.fori_loop(1, turns, add, jax.tree.map(jnp.zeros_like, operands))
    return None, None, totals


_further_rounds.defvjp(_forward, _backward)
