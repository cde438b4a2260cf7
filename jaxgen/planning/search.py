"""The search for the mesh, rematerialisation and microbatches of a run on a topology."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

from jaxgen.errors import ConfigError
from jaxgen.planning.estimate import Choice, Estimate, Estimator
from jaxgen.planning.plan import Plan, make_plan
from jaxgen.planning.topology import Topology
from jaxgen.runs.config import RunConfig
from jaxgen.sharding.mesh import MESH_AXES, MeshConfig, divisors
from jaxgen.training.execution import ExecutionConfig

_POLICIES = ("none", "dots", "full")
_SLACK = 1.5
"""How far too high an estimate of temporaries may be before anything is compiled."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A choice and its estimate."""

    choice: Choice
    estimate: Estimate


@dataclasses.dataclass(frozen=True)
class Search:
    """A search and what it found.

    Attributes:
      tried: how many choices there are.
      possible: those of them that the mesh can split and that may fit, the fastest estimate first.
      plans: those that were compiled: those that fit first, the fastest first.
    """

    tried: int
    possible: Sequence[Candidate]
    plans: Sequence[Plan]


def search(
    config: RunConfig,
    execution: ExecutionConfig,
    topology: Topology,
    count: int,
    report: Callable[[str], None],
) -> Search:
    """Tries meshes, policies and microbatches by arithmetic, and compiles the best few.

    Args:
      config: the run.
      execution: whose other settings stay.
      topology: the devices.
      count: how many to compile.
      report: is told what is being compiled.

    Raises:
      ConfigError: if no choice can be split or may fit.
    """
    estimator = Estimator(config, topology, execution)
    choices = _choices(topology.num_devices, config.train.batch_size, estimator.has_experts)
    possible = [
        Candidate(choice, estimator.of(choice))
        for choice in choices
        if estimator.refusal(choice) is None
    ]
    possible = [one for one in possible if _may_fit(one.estimate, topology)]
    if not possible:
        raise ConfigError(
            f"none of {len(choices)} layouts of this run may fit on {topology}; take more chips, "
            "or a batch or length that more devices divide."
        )
    possible.sort(key=lambda one: (one.estimate.seconds, one.estimate.temporaries))
    plans = list(_compiled(config, execution, topology, possible, count, report))
    plans.sort(key=lambda one: (not one.fits, -(one.speed.mfu_in_turn if one.speed else 0.0)))
    return Search(len(choices), possible, plans)


def _compiled(
    config: RunConfig,
    execution: ExecutionConfig,
    topology: Topology,
    possible: Sequence[Candidate],
    count: int,
    report: Callable[[str], None],
) -> Iterator[Plan]:
    """Yields plans of the fastest candidates that may fit, by what the plans before have needed.

    After one that fits come others of its speed on other meshes, after one that does not those
    whose temporaries fit when the arithmetic is as far off for them.
    """
    factor, rest = 1 / _SLACK, list(possible)
    for _ in range(count):
        rest = [one for one in rest if _may_fit(one.estimate, topology, factor)]
        if not rest:
            return
        best = rest.pop(0)
        report(", ".join(f"{name}={value}" for name, value in best.choice.settings.items()))
        made = make_plan(config, with_choice(execution, best.choice), topology)
        yield made
        if made.fits:
            rest = [one for one in rest if one.choice.sizes != best.choice.sizes]
        else:
            taken = made.memory.needed - best.estimate.state
            factor = max(factor, taken / best.estimate.temporaries)


def with_choice(execution: ExecutionConfig, choice: Choice) -> ExecutionConfig:
    """Returns the execution with a choice's mesh, policy and microbatches."""
    return dataclasses.replace(
        execution,
        mesh=MeshConfig(**choice.mesh),
        remat=choice.remat,  # pyright: ignore[reportArgumentType]
        accumulation=choice.accumulation,
    )


def _choices(devices: int, batch_size: int, has_experts: bool) -> list[Choice]:
    free = len(MESH_AXES) - 1  # The last axis, of stages, is not built.
    expert = MESH_AXES.index("expert")
    meshes = [
        (*sizes, 1) for sizes in _factorisations(devices, free) if has_experts or sizes[expert] == 1
    ]
    return [Choice(*parts) for parts in itertools.product(meshes, _POLICIES, divisors(batch_size))]


def _factorisations(number: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yields the ordered products of `count` factors that are the number."""
    if count == 1:
        yield (number,)
        return
    for first in divisors(number):
        for rest in _factorisations(number // first, count - 1):
            yield (first, *rest)


def _may_fit(estimate: Estimate, topology: Topology, factor: float = 1 / _SLACK) -> bool:
    limit = topology.chip.hbm_bytes
    if limit is None:
        return True
    return estimate.state + factor * estimate.temporaries <= limit / topology.chip.devices
