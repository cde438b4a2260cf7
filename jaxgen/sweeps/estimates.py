"""Estimates how long the runs of a sweep take, from finished ones or from a few steps here."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxgen.errors import JaxgenError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sweeps.leases import read_attempts
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import open_data, put_batch
from jaxgen.training.program import build_program

MEASURED_STEPS = 3
MAX_STEP_FLOPS = 2e12
MAX_PARAMETERS = 3e8
"""Larger steps and models are not measured: this machine may not hold them."""


@dataclasses.dataclass(frozen=True)
class Speeds:
    """The known speeds of runs and where they come from.

    Attributes:
      by_size: FLOP/s of a run by its FLOPs per token.
      source: a phrase for people; the reason, if no speed is known.
    """

    by_size: Mapping[int, float]
    source: str

    def seconds(self, config: RunConfig) -> float | None:
        """Returns the time of a run, at the speed of the known runs next to it in FLOPs/token."""
        if not self.by_size:
            return None
        sizes = sorted(self.by_size)
        size = config.model.flops(config.train.length)
        speed = np.interp(
            np.log(size), np.log(sizes), np.log([self.by_size[known] for known in sizes])
        )
        return cost_of(config).flops / math.exp(speed)


def recorded_speeds(configs: Sequence[RunConfig], directories: Sequence[RunDirectory]) -> Speeds:
    """Returns the speeds of runs that finished in one attempt, start-up and evaluation included."""
    found: dict[int, list[float]] = {}
    for config, directory in zip(configs, directories, strict=True):
        attempts = read_attempts(directory)
        if len(attempts) == 1 and attempts[0].outcome == "finished" and attempts[0].seconds:
            size = config.model.flops(config.train.length)
            found.setdefault(size, []).append(cost_of(config).flops / attempts[0].seconds)
    count = sum(map(len, found.values()))
    means = {size: sum(speeds) / len(speeds) for size, speeds in found.items()}
    return Speeds(means, f"from {count} finished run(s) of this sweep")


def measure_speeds(configs: Sequence[RunConfig], execution: ExecutionConfig) -> Speeds:
    """Measures a few steps of the largest and the smallest run on all cores of this machine.

    Compilation, evaluation and checkpoints are left out.
    """
    by_size = {c.model.flops(c.train.length): c for c in configs}
    speeds, problems = {}, []
    for size in sorted({min(by_size), max(by_size)}):
        config = by_size[size]
        step_flops = size * config.train.tokens_before(1, config.rows_per_example)
        if step_flops > MAX_STEP_FLOPS or config.model.count().total > MAX_PARAMETERS:
            problems.append(f"{config.name} is too large to be measured here")
            continue
        try:
            speeds[size] = step_flops / _seconds_of_step(config, execution)
        except JaxgenError as error:
            problems.append(f"{config.name}: {error}")
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
    source = f"from {MEASURED_STEPS} steps of {len(speeds)} run(s) on this machine's {devices}"
    return Speeds(speeds, "; ".join([source, *problems]) if speeds else "; ".join(problems))


def _seconds_of_step(config: RunConfig, execution: ExecutionConfig) -> float:
    mesh = make_mesh(execution.mesh)
    program = build_program(
        config.model, config.train, mesh, execution, config.objective,
        rows_per_example=config.rows_per_example,
    )  # fmt: skip
    data = open_data(config.mixture, config.train, program.total_steps)
    accumulation = program.accumulation_at(0)
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        batch = put_batch(data.batch(0, state), mesh, execution.rules, accumulation)
        step = program.train_step(accumulation)
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        begun = time.monotonic()
        for _ in range(MEASURED_STEPS):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
    return (time.monotonic() - begun) / MEASURED_STEPS
