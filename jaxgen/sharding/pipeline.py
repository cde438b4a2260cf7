"""Pipeline stages: the layers of a stack on groups of devices that microbatches pass through.

A stage holds `rounds` runs of consecutive layers, each as long, dealt in turn: with 8 layers, 2
stages and 2 rounds the first holds layers 1, 2, 5 and 6. Microbatches go round the stages once a
round, in groups of as many as there are stages, and each stage works at every tick but those in
which the pipeline fills and drains (interleaved schedule, 2104.04473, 2.2). It is one loop in one
compiled step, differentiated like any other, so the backward pass goes the same way back.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ShardingError
from jaxgen.sharding.rules import compiled_for, free_axes, num_parts

_LOGGER = logging.getLogger(__name__)

STAGE = "stage"
MICROBATCHES_PER_STAGE = 4
"""Of a pipeline whose microbatches are not set, at most: a fifth of the ticks is then lost."""


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """How a batch goes through pipeline stages; without stages it does nothing.

    Attributes:
      microbatches: that a batch is worked through in, at most: the most up to here that divide its
        rows on a device (and in several rounds are a multiple of the stages). None: 4 a stage.
      rounds: that every microbatch goes through all stages; more of them waste less time while the
        pipeline fills, and send activations as many times. The layers of a stage are then not
        neighbours, and are sent to it from where they are kept, once a step.
    """

    microbatches: PositiveInt | None = None
    rounds: PositiveInt = 1

    def __post_init__(self):
        check_domains(self, "pipeline")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule says which microbatch is where at each tick.

    Attributes:
      stages: groups of devices.
      rounds: see `PipelineConfig`.
      microbatches: of a batch.
    """

    stages: int
    rounds: int
    microbatches: int

    @property
    def ticks(self) -> int:
        """How often a stage runs one of its runs of layers, or idles."""
        return self.microbatches * self.rounds + self.stages - 1

    @property
    def bubble(self) -> Fraction:
        """The share of the ticks in which a stage has nothing to do (2104.04473, 2.2)."""
        return Fraction(self.stages - 1, self.ticks)

    def at(self, turn: Any) -> tuple[Any, Any]:
        """Returns the round and the microbatch of a stage at its own `turn`, counted from 0."""
        group, rest = turn // (self.stages * self.rounds), turn % (self.stages * self.rounds)
        return rest // self.stages, group * self.stages + rest % self.stages

    def last_ticks(self) -> np.ndarray:
        """Returns the tick at which each microbatch leaves the last stage for the last time."""
        turns = np.arange(self.microbatches * self.rounds)
        number, microbatch = self.at(turns)
        leaves = number == self.rounds - 1
        order = np.argsort(microbatch[leaves])
        return turns[leaves][order] + self.stages - 1

    def __str__(self) -> str:
        rounds = "" if self.rounds == 1 else f" in {self.rounds} rounds"
        return (
            f"{self.stages} stages, {self.microbatches} microbatches{rounds}: "
            f"{float(self.bubble):.0%} of the time is the bubble ({self.bubble})"
        )


class Microbatch(NamedTuple):
    """What a run of layers is told: numbers of the microbatch and of its first unit, and arrays."""

    number: Any
    first_unit: Any
    rows: Any
    shared: Any


def make_schedule(config: PipelineConfig, stages: int, rows: int, repeats: int) -> Schedule:
    """Returns the schedule of a batch.

    Args:
      config: what is asked for.
      stages: of the mesh.
      rows: of the batch on each device.
      repeats: of the units of layers that are split.

    Raises:
      ShardingError: if rounds do not divide the units of a stage, or rows make no microbatches.
    """
    if repeats % (stages * config.rounds):
        fitting = [n for n in range(1, repeats // stages + 1) if repeats % (stages * n) == 0]
        raise ShardingError(
            f"pipeline.rounds={config.rounds} do not divide the "
            f"{repeats // stages} units of layers of each of mesh.stage={stages} stages; "
            f"rounds that fit: {fitting}."
        )
    multiple = stages if config.rounds > 1 else 1
    most = config.microbatches or MICROBATCHES_PER_STAGE * stages
    fitting = [n for n in range(1, rows + 1) if rows % n == 0 and n % multiple == 0]
    if not fitting or fitting[0] > most:
        raise ShardingError(
            f"pipeline.rounds={config.rounds} want pipeline.microbatches in a multiple of "
            f"mesh.stage={stages}, at most {most}; the {rows} rows that the stages share allow "
            f"{fitting or 'none'}."
        )
    return Schedule(stages, config.rounds, max(n for n in fitting if n <= most))


def in_microbatches(rows: Any, count: int) -> Any:
    """Returns arrays [count, batch / count, ...], of a pytree of [batch, ...] split by the batch.

    Each device divides its own rows, so that nothing moves.
    """
    return _on_rows(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), rows, 0, 1)


def from_microbatches(rows: Any) -> Any:
    """Returns what `in_microbatches` was given."""
    return _on_rows(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), rows, 1, 0)


def _on_rows(reshape, rows: Any, before: int, after: int) -> Any:
    given = jax.tree.map(lambda x: jax.typeof(x).sharding.spec, rows)
    made = jax.tree.map(lambda spec: jax.P(*[None] * after, *spec[before:]), given)
    return jax.shard_map(
        lambda rows: jax.tree.map(reshape, rows),
        in_specs=(given,),
        out_specs=made,
        axis_names=free_axes(),
        check_vma=False,
    )(rows)


def run_pipeline(
    run: Callable[[Any, Any, Microbatch], tuple[Any, Any]],
    schedule: Schedule,
    layers: Any,
    stream: jax.Array,
    rows: Any,
    shared: Any,
) -> tuple[jax.Array, Any]:
    """Runs microbatches through the stages.

    Args:
      run: maps a microbatch's stream, a run of layers and its `Microbatch` to the stream and a
        pytree of sums over what is in the microbatch.
      schedule: of the batch.
      layers: pytree of arrays [units, ...], split over the stages.
      stream: [microbatches, rows, ...].
      rows: pytree of arrays [microbatches, rows, ...] of which every stage reads a microbatch's.
      shared: pytree of arrays that every stage reads whole.

    Returns:
      The stream [microbatches, rows, ...] after all layers; the sums over all microbatches,
      [units, ...].
    """
    stages, rounds, count = schedule.stages, schedule.rounds, schedule.microbatches
    neighbours = [(i, (i + 1) % stages) for i in range(stages)]

    dtypes = jax.tree.map(lambda x: x.dtype, (stream, rows, shared))

    def on_stage(layers, *read):
        stream, rows, shared = jax.tree.map(jax.lax.convert_element_type, read, dtypes)
        stage = jax.lax.axis_index(STAGE)
        own = jax.tree.map(lambda x: _dealt(x, stages, rounds), layers)
        units = jax.tree.leaves(own)[0].shape[1]

        def tick(carry, number):
            arrived, sums = carry
            turn = jnp.clip(number - stage, 0, count * rounds - 1)
            is_busy = turn == number - stage
            lap, microbatch = schedule.at(turn)
            takes_new = (stage == 0) & (lap == 0)
            x = jnp.where(takes_new, stream[microbatch], arrived)
            here = jax.tree.map(lambda x: x[0] if rounds == 1 else _of(x, lap), own)
            read = jax.tree.map(lambda x: _of(x, microbatch), rows)
            first_unit = (lap * stages + stage) * units
            x, more = run(x, here, Microbatch(microbatch, first_unit, read, shared))
            # Nothing of the ticks in which the pipeline fills and drains is counted.
            more = jax.tree.map(lambda one: jnp.where(is_busy, one, 0), more)
            sums = jax.tree.map(lambda total, one: total.at[lap].add(one), sums, more)
            return (jax.lax.ppermute(x, STAGE, neighbours), sums), x

        first = jax.tree.map(lambda x: x[0], (stream, own, rows))
        made = jax.eval_shape(
            lambda x, here, read: run(x, here, Microbatch(0, 0, read, shared))[1], *first
        )
        sums = jax.tree.map(lambda one: jnp.zeros((rounds, *one.shape), one.dtype), made)
        begun = jnp.zeros_like(stream[0]), sums
        (_, sums), after = jax.lax.scan(tick, begun, jnp.arange(schedule.ticks))
        after = after[schedule.last_ticks()]
        out = jax.lax.psum(_summable(jnp.where(stage == stages - 1, after, 0)), STAGE)
        in_order = functools.partial(_in_order, stage=stage, stages=stages)
        return out.astype(after.dtype), jax.tree.map(in_order, sums)

    return jax.shard_map(
        on_stage,
        in_specs=(jax.P(STAGE), jax.P(), jax.P(), jax.P()),
        out_specs=jax.P(),
        axis_names={STAGE},
        check_vma=False,
    )(layers, *jax.tree.map(_summable, (stream, rows, shared)))


def _summable(x: jax.Array) -> jax.Array:
    """Returns an array that may be summed over stages, as the gradient of what all read is.

    XLA for CPU aborts on such a sum in bfloat16 (jaxlib 0.10.2).
    """
    is_narrow = x.dtype == jnp.bfloat16 and compiled_for() == "cpu"
    return x.astype(jnp.float32) if is_narrow else x


def layer_of_stages(layers: Any, number: Any) -> Any:
    """Returns one unit of layers on all stages, sent by the stage that has it.

    Args:
      layers: pytree of arrays [units, ...], split over the stages.
      number: of the unit.
    """

    def send(layers, number):
        own = jax.tree.leaves(layers)[0].shape[0]
        is_here = number // own == jax.lax.axis_index(STAGE)
        return jax.tree.map(
            lambda x: jax.lax.psum(jnp.where(is_here, _of(x, number % own), 0), STAGE), layers
        )

    return jax.shard_map(
        send,
        in_specs=(jax.P(STAGE), jax.P()),
        out_specs=jax.P(),
        axis_names={STAGE},
        check_vma=False,
    )(layers, number)


@functools.cache
def log_schedule(schedule: Schedule) -> None:
    """Says once how a stack's microbatches go through the stages."""
    _LOGGER.info("pipeline: %s.", schedule)


def num_stages() -> int:
    """Returns the stages of the mesh in force."""
    return num_parts((STAGE,))


def with_whole_layers(x: jax.Array) -> jax.Array:
    """Returns stacked layers as a scan takes them, which are split over no axis, not even of 1."""
    layers, *rest = jax.typeof(x).sharding.spec
    return x if layers is None else jax.reshard(x, jax.P(None, *rest))


def is_over_one_stage(x: jax.Array) -> bool:
    """Returns whether an array is of stacked layers, for pipeline stages, of which there is one."""
    return jax.typeof(x).sharding.spec[:1] == (STAGE,) and num_stages() == 1


def _of(x: jax.Array, index) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x, index, keepdims=False)


def _dealt(x: jax.Array, stages: int, rounds: int) -> jax.Array:
    """Returns a stage's own layers [rounds, units, ...], of those that are kept with it.

    Runs of layers are kept in order, `rounds` of them a stage, and run c belongs to stage
    c % stages. They are sent in as many turns as there are rounds, in each of which every stage
    sends one and gets one.
    """
    x = x.reshape(rounds, x.shape[0] // rounds, *x.shape[1:])
    if rounds == 1:
        return x
    stage = jax.lax.axis_index(STAGE)
    got = jnp.zeros_like(x)
    for sent in _turns(stages, rounds):
        home = (np.arange(stages) * rounds + sent) % stages
        place = np.zeros(stages, int)
        place[home] = (np.arange(stages) * rounds + sent) // stages
        run = jax.lax.ppermute(
            _of(x, jnp.asarray(sent)[stage]), STAGE, list(enumerate(home.tolist()))
        )
        got = jax.lax.dynamic_update_index_in_dim(got, run, jnp.asarray(place)[stage], 0)
    return got


def _turns(stages: int, rounds: int) -> list[np.ndarray]:
    """Returns which of its runs each stage sends in each turn, so that no two have one home.

    Stages s and t have the homes (s * rounds + i) % stages and (t * rounds + j) % stages. Of
    `common` = gcd(stages, rounds) blocks of consecutive stages, those of one block have homes that
    differ by multiples of it, and those of different blocks get different remainders.
    """
    common = math.gcd(stages, rounds)
    block = np.arange(stages) // (stages // common)
    return [
        first + (offset + block) % common
        for first in range(0, rounds, common)
        for offset in range(common)
    ]


def _in_order(x: jax.Array, stage, stages: int) -> jax.Array:
    """Returns what each stage has, [rounds, units, ...], as all have it: [all units, ...]."""
    whole = jnp.zeros((x.shape[0], stages, *x.shape[1:]), x.dtype)
    whole = jax.lax.dynamic_update_index_in_dim(whole, x, stage, 1)
    return jax.lax.psum(whole, STAGE).reshape(-1, *x.shape[2:])
