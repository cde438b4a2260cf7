"""Changes of the execution that would let a program fit that does not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from jaxgen.planning.estimate import Choice, Estimator
from jaxgen.planning.plan import Plan
from jaxgen.sharding.mesh import divisors


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of the execution and what a device would need with it, by arithmetic.

    Attributes:
      flags: that make it, as `jaxgen plan` and `jaxgen train` take them.
      needed: bytes of a device.
    """

    flags: str
    needed: float


def fitting_changes(plan: Plan, estimator: Estimator, batch_size: int) -> list[Change]:
    """Returns the changes by which a plan would fit, the smallest first; [] if none is known.

    What the compiler said of the plan corrects the arithmetic: temporaries are taken to be as far
    off for a change as they are for the plan itself.
    """
    memory = plan.memory
    now = Choice(tuple(plan.mesh.values()), plan.remat, plan.accumulation)
    estimate = estimator.of(now)
    actual = memory.needed - memory.parameters - memory.optimizer_state - memory.averages
    factor = actual / max(1.0, estimate.temporaries)
    found, seen = [], {now}
    for choice in _choices(now, batch_size):
        if choice in seen or estimator.refusal(choice) is not None:
            continue
        seen.add(choice)
        changed = estimator.of(choice)
        needed = changed.state + factor * changed.temporaries
        if memory.limit is not None and needed <= memory.limit:
            found.append(Change(choice.flags(now), needed))
    return found


def _choices(now: Choice, batch_size: int) -> Iterator[Choice]:
    """Yields single changes first, then those of more settings; last, rows that devices share."""
    mesh = now.mesh
    mesh |= {"fsdp": mesh["fsdp"] * mesh["data"], "data": 1}
    split = dataclasses.replace(now, sizes=tuple(mesh.values()))
    full = dataclasses.replace(now, remat="full")
    both = dataclasses.replace(split, remat="full")
    yield from (full, split)
    counts = [count for count in divisors(batch_size) if count > now.accumulation]
    for start in (now, full, split, both):
        yield start
        yield from (dataclasses.replace(start, accumulation=count) for count in counts)
    for parts, axis in itertools.product((2, 4, 8), ("tensor", "sequence")):
        if mesh["fsdp"] % parts == 0:
            shared = {"fsdp": mesh["fsdp"] // parts, axis: parts * mesh[axis]}
            sizes = tuple((mesh | shared).values())
            yield dataclasses.replace(both, sizes=sizes, accumulation=parts * now.accumulation)
