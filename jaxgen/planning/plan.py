"""The plan of a run: what its step needs of a topology, and how fast it can be at best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jaxgen.errors import ConfigError
from jaxgen.planning.compiling import Buffer, Compiled, abstract_batch, compile_train_step
from jaxgen.planning.roofline import Roofline, roofline
from jaxgen.planning.topology import Topology
from jaxgen.planning.work import Work, read_work
from jaxgen.runs.config import RunConfig
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.memory import bytes_of_shard
from jaxgen.training.program import Program, build_program

SECONDS_PER_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory of one device, in bytes.

    Attributes:
      parameters: the parameters, as they are kept between steps.
      optimizer_state: what the optimiser keeps.
      averages: moving averages of the parameters.
      batch: what a step reads.
      temporaries: what is there only while a step runs: gradients, activations, gathered weights;
        None where the program does not fit.
      code: the program itself.
      needed: all together, as the compiler says.
      limit: what a device has; None: no limit is known.
      largest: the largest buffers where the program does not fit.
    """

    parameters: int
    optimizer_state: int
    averages: int
    batch: int
    temporaries: int | None
    code: int
    needed: int
    limit: int | None
    largest: tuple[Buffer, ...] = ()

    @property
    def excess(self) -> int:
        """The bytes that are too many; 0 where the program fits."""
        return 0 if self.limit is None else max(0, self.needed - self.limit)


@dataclasses.dataclass(frozen=True)
class Speed:
    """The bounds of a step's speed.

    Attributes:
      seconds: of a step; no step is faster.
      tokens_per_second: of all chips.
      tokens_per_second_per_chip: of one.
      mfu: the model's operations (without recomputation) over what the chips could do in that time.
      mfu_in_turn: the same if computing, memory and links did not overlap at all.
    """

    seconds: float
    tokens_per_second: float
    tokens_per_second_per_chip: float
    mfu: float
    mfu_in_turn: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run's step, compiled for a topology.

    Attributes:
      topology: such as "v5p:8x8x16".
      chips: how many there are.
      devices: how many JAX devices they are.
      mesh: the size of every axis.
      remat: the policy of rematerialisation.
      accumulation: microbatches of a step.
      microbatch: rows of a microbatch on all devices.
      tokens_per_step: of a global batch, padding included.
      total_steps: of the run.
      compile_seconds: that the compilation took.
      memory: of one device.
      model_flops: of one device in a step, by the closed form, without recomputation.
      work: of one device in a step, from the compiled program; None where it does not fit.
      roofline: the times of that work; None without a work, or without figures of the chip.
    """

    topology: str
    chips: int
    devices: int
    mesh: Mapping[str, int]
    remat: str
    accumulation: int
    microbatch: int
    tokens_per_step: int
    total_steps: int
    compile_seconds: float
    memory: Memory
    model_flops: float
    work: Work | None
    roofline: Roofline | None

    @property
    def fits(self) -> bool:
        """Whether the program fits into the memory of a device."""
        return self.work is not None and not self.memory.excess

    @property
    def speed(self) -> Speed | None:
        """The bounds of the speed; None where the roofline is not known."""
        if self.roofline is None or self.work is None:
            return None
        seconds = self.roofline.seconds
        at_peak = self.roofline.compute * self.model_flops / self.work.flops
        tokens = self.tokens_per_step / seconds
        return Speed(
            seconds=seconds,
            tokens_per_second=tokens,
            tokens_per_second_per_chip=tokens / self.chips,
            mfu=at_peak / seconds,
            mfu_in_turn=at_peak / self.roofline.seconds_in_turn,
        )


@dataclasses.dataclass(frozen=True)
class Expense:
    """What a whole run takes at least, at the speed that bounds it.

    Attributes:
      tokens: that the run sees.
      days: of all its steps.
      chip_hours: of all chips.
      price: at the price of a chip's hour; None without one.
      energy_kwh: at the power of a chip and the data centre's overhead; None without a power.
    """

    tokens: int
    days: float
    chip_hours: float
    price: float | None
    energy_kwh: float | None


def make_plan(config: RunConfig, execution: ExecutionConfig, topology: Topology) -> Plan:
    """Compiles the train step of a run for a topology, and returns what it needs.

    Nothing is allocated but the compiler's own memory.

    Raises:
      ShardingError: if the mesh does not fit the topology, the model or the batch.
      ConfigError: if the topology cannot be compiled for here, or the run has no steps.
    """
    mesh = make_mesh(execution.mesh, topology.devices())
    program = build_program(config.model, config.train, mesh, execution, config.objective)
    if program.total_steps < 1:
        raise ConfigError(f"train.steps={config.train.steps} makes no step to plan for.")
    train = config.train
    accumulation = program.accumulation_at(program.total_steps - 1)
    spec = config.mixture.batch_spec(
        batch_size=train.batch_size, length=train.length, source_length=train.source_length
    )
    batch = abstract_batch(spec, mesh, execution.rules, accumulation)
    compiled = compile_train_step(program, batch, accumulation)
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    work = None if compiled.text is None else read_work(compiled.text, sizes)
    tokens = train.batch_size * train.length
    return Plan(
        topology=str(topology),
        chips=topology.chips,
        devices=topology.num_devices,
        mesh=sizes,
        remat=execution.remat,
        accumulation=accumulation,
        microbatch=program.microbatch_size,
        tokens_per_step=tokens,
        total_steps=program.total_steps,
        compile_seconds=compiled.seconds,
        memory=_memory(program, batch, compiled, topology),
        model_flops=tokens * config.model.flops(train.length, train.source_length) / mesh.size,
        work=work,
        roofline=work and roofline(work, topology, list(mesh.devices.flat)),
    )


def expense_of(
    plan: Plan,
    config: RunConfig,
    price_per_chip_hour: float | None = None,
    watts_per_chip: float | None = None,
    pue: float | None = None,
) -> Expense | None:
    """Returns what a whole run takes at least; None where a plan has no speed.

    Args:
      plan: of the run's full step.
      config: the run.
      price_per_chip_hour: in any currency.
      watts_per_chip: with its share of the host.
      pue: watts of the data centre over those of its machines; None: 1.
    """
    if plan.speed is None:
        return None
    tokens = config.train.tokens_before(plan.total_steps)
    seconds = tokens / plan.speed.tokens_per_second
    hours = plan.chips * seconds / 3600
    watts = None if watts_per_chip is None else watts_per_chip * (pue or 1.0)
    return Expense(
        tokens=tokens,
        days=seconds / SECONDS_PER_DAY,
        chip_hours=hours,
        price=None if price_per_chip_hour is None else hours * price_per_chip_hour,
        energy_kwh=None if watts is None else hours * watts / 1000,
    )


def _memory(program: Program, batch: Any, compiled: Compiled, topology: Topology) -> Memory:
    state = program.abstract_state()
    model, optimizer, averages = (
        sum(map(bytes_of_shard, jax.tree.leaves(part)))
        for part in (state.model, state.optimizer_state, state.ema)
    )
    held = model + optimizer + averages
    read = sum(map(bytes_of_shard, jax.tree.leaves(batch)))
    limit = topology.chip.hbm_bytes
    return Memory(
        parameters=model,
        optimizer_state=optimizer,
        averages=averages,
        batch=read,
        temporaries=None if compiled.text is None else compiled.temporaries + compiled.results,
        code=compiled.code,
        needed=held + read if compiled.needed is None else max(compiled.needed, held + read),
        limit=None if limit is None else limit // topology.chip.devices,
        largest=compiled.largest,
    )
