"""The plan of a run: what its step needs of a topology, and how fast it can be at best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax

from jaxgen.errors import ConfigError
from jaxgen.planning.buffers import Buffer
from jaxgen.planning.compiling import Compiled, compile_train_step
from jaxgen.planning.decoding import abstract_cache, compile_decode_step
from jaxgen.planning.roofline import Roofline, roofline
from jaxgen.planning.topology import Topology
from jaxgen.planning.work import Work, read_work
from jaxgen.runs.config import RunConfig
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import abstract_batch
from jaxgen.training.memory import bytes_of_shard
from jaxgen.training.offloading import is_on_host
from jaxgen.training.program import Program, build_program

SECONDS_PER_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Memory:
    """The memory of one device, in bytes.

    Attributes:
      parameters: the parameters, as they are kept between steps.
      optimizer_state: what the optimiser keeps there.
      averages: moving averages of the parameters.
      batch: what a step of training reads.
      cache: keys and values of decoding.
      activations: what the scans over layers keep for the backward pass, part of the temporaries.
      temporaries: what is there only while a step runs: activations, gradients, gathered weights;
        None where the program does not fit and the compiler does not say.
      code: the program itself.
      needed: all together, as the compiler says.
      limit: what a device has; None: no limit is known.
      largest: the largest arrays; see `Compiled`.
      on_host: what the optimiser keeps in the memory of the host, of a run that offloads it; not
        part of what is needed.
    """

    parameters: int
    optimizer_state: int
    averages: int
    batch: int
    cache: int
    activations: int
    temporaries: int | None
    code: int
    needed: int
    limit: int | None
    largest: tuple[Buffer, ...] = ()
    on_host: int = 0

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
      step: "train" or "decode".
      topology: such as "v5p:8x8x16".
      chips: how many there are.
      devices: how many JAX devices they are.
      mesh: the size of every axis.
      remat: the policy of rematerialisation.
      accumulation: microbatches of a step.
      microbatch: rows of a microbatch on all devices.
      tokens_per_step: of a global batch, padding included; of decoding one a sequence.
      total_steps: of the run.
      compile_seconds: that the compilation took.
      memory: of one device.
      model_flops: of one device in a step, by the closed form, without recomputation.
      work: of one device in a step, from the compiled program; None where it does not fit.
      roofline: the times of that work; None without a work, or without figures of the chip.
    """

    step: str
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


def make_plan(
    config: RunConfig, execution: ExecutionConfig, topology: Topology, decode: bool = False
) -> Plan:
    """Compiles the train step of a run for a topology, and returns what it needs.

    Nothing is allocated but the compiler's own memory.

    Args:
      config: the run.
      execution: its mesh, rematerialisation, microbatches.
      topology: the devices.
      decode: plan a step of decoding instead, of `train.batch_size` sequences with a cache of
        `train.length` tokens.

    Raises:
      ShardingError: if the mesh does not fit the topology, the model or the batch.
      ConfigError: if the topology cannot be compiled for here, or the run has no steps.
    """
    mesh = make_mesh(execution.mesh, topology.devices())
    program = build_program(
        config.model, config.train, mesh, execution, config.objective,
        rows_per_example=config.rows_per_example,
    )  # fmt: skip
    if program.total_steps < 1:
        raise ConfigError(f"train.steps={config.train.steps} makes no step to plan for.")
    train = config.train
    accumulation = 1 if decode else program.accumulation_at(program.total_steps - 1)
    tokens = train.batch_size * config.rows_per_example * train.length
    passes = Fraction(1)
    if decode:
        tokens, passes = train.batch_size, Fraction(1, 3)
        read = abstract_cache(program, train.batch_size, train.length)
        compiled = compile_decode_step(program, read)
    else:
        spec = config.mixture.batch_spec(
            batch_size=train.batch_size, length=train.length, source_length=train.source_length
        )
        read = abstract_batch(spec, mesh, execution.rules, accumulation)
        compiled = compile_train_step(program, read, accumulation)
    sizes = {axis: int(size) for axis, size in mesh.shape.items()}
    work = None if compiled.text is None else read_work(compiled.text, sizes)
    flops = config.model.flops(train.length, train.source_length)
    return Plan(
        step="decode" if decode else "train",
        topology=str(topology),
        chips=topology.chips,
        devices=topology.num_devices,
        mesh=sizes,
        remat=execution.remat,
        accumulation=accumulation,
        microbatch=train.batch_size if decode else program.microbatch_size,
        tokens_per_step=tokens,
        total_steps=program.total_steps,
        compile_seconds=compiled.seconds,
        memory=_memory(program, read, compiled, topology, decode),
        model_flops=float(passes * tokens * flops / mesh.size),
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
    if plan.speed is None or plan.step != "train":
        return None
    tokens = config.train.tokens_before(plan.total_steps, config.rows_per_example)
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


def _memory(
    program: Program, read: Any, compiled: Compiled, topology: Topology, decode: bool
) -> Memory:
    state = program.abstract_state()
    optimizer_state, averages = (None, None) if decode else (state.optimizer_state, state.ema)
    moments = jax.tree.leaves(optimizer_state)
    offloaded = [leaf for leaf in moments if is_on_host(leaf)]
    model, optimizer, on_host, average, arguments = (
        sum(map(bytes_of_shard, jax.tree.leaves(part)))
        for part in (state.model, moments, offloaded, averages, read)
    )
    optimizer -= on_host
    held = model + optimizer + average + arguments
    limit = topology.chip.hbm_bytes
    known = compiled.text is not None or compiled.temporaries
    temporaries = compiled.temporaries + compiled.results if known else None
    needed = compiled.needed or held + (temporaries or compiled.activations)
    return Memory(
        parameters=model,
        optimizer_state=optimizer,
        averages=average,
        batch=0 if decode else arguments,
        cache=arguments if decode else 0,
        activations=compiled.activations,
        temporaries=temporaries,
        code=compiled.code,
        needed=max(needed, held),
        limit=None if limit is None else limit // topology.chip.devices,
        largest=compiled.largest,
        on_host=on_host,
    )
