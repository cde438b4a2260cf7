"""Finds silent corruption: replicas that differ, and steps that do not repeat.

Devices that hold the same part of an array must hold the same bits, and a compiled step of the same
state and batch must give the same bits again. Where they do not, a chip, its memory or a link
computes wrongly without an error (Hochschild et al. 2021, "Cores that don't count"; Dixit et al.
2021, 2102.11245).
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen import distributed
from jaxgen.errors import CorruptionError
from jaxgen.training.digests import digest
from jaxgen.training.state import flatten

Marks = dict[str, dict[str, int]]
"""Of each part of an array the digest on each device that holds it."""


def digests_by_device(state: Any) -> Marks:
    """Returns the digests of all parts of a state's arrays, on all processes.

    The keys are such as "model.embedding.table[0:8, 0:16]" and "device 3 of process 1".
    """
    arrays = flatten(state)
    mesh = next(iter(arrays.values())).sharding.mesh
    specs = {name: array.sharding.spec for name, array in arrays.items()}
    marks: Marks = {}
    for name, found in distributed.fetch(_digests_of(mesh, tuple(specs.items()))(arrays)).items():
        places = arrays[name].sharding.devices_indices_map(arrays[name].shape)
        for device, mark in zip(mesh.devices.flat, found, strict=True):
            part = f"{name}[{', '.join(map(_bounds, places[device], arrays[name].shape))}]"
            holder = f"device {device.id} of process {device.process_index}"
            marks.setdefault(part, {})[holder] = int(mark)
    return marks


@functools.cache
def _digests_of(mesh: Any, specs: tuple[tuple[str, jax.P], ...]) -> Any:
    """Returns a program from arrays to their digests on each device of the mesh, [devices]."""

    def local(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: digest(array)[None] for name, array in arrays.items()}

    everywhere = jax.P(mesh.axis_names)
    return jax.jit(
        jax.shard_map(
            local, mesh=mesh, in_specs=(dict(specs),), out_specs=everywhere, check_vma=False
        )
    )


def check_replicas(state: Any, step: int) -> Marks:
    """Checks that devices agree on what they hold in common; call it on all processes.

    Returns:
      The digests.

    Raises:
      CorruptionError: naming the devices that differ from the most.
    """
    marks = digests_by_device(state)
    wrong: dict[str, list[str]] = {}
    for part, found in marks.items():
        most = collections.Counter(found.values()).most_common(1)[0][0]
        for device, mark in found.items():
            if mark != most:
                wrong.setdefault(device, []).append(part)
    if wrong:
        devices = "; ".join(f"{one} in {len(parts)} of them" for one, parts in wrong.items())
        raise CorruptionError(
            f"replicas differ after step {step}: {devices}, such as {min(wrong.values())[0]}. "
            "Nothing was saved since. Test or replace that host, and start again to go on from the "
            "newest checkpoint."
        )
    return marks


def check_repeats(train_step: Callable[..., Any], state: Any, batch: Any, step: int) -> Any:
    """Takes a step twice and checks that it comes to the same bits; call it on all processes.

    It needs the memory of another state.

    Returns:
      What the step returns.

    Raises:
      CorruptionError: naming the devices whose results differ.
    """
    first, _ = train_step(jax.tree.map(jnp.copy, state), batch)
    before = digests_by_device(first)
    del first
    after = train_step(state, batch)
    wrong = collections.Counter(
        device
        for part, found in digests_by_device(after[0]).items()
        for device, mark in found.items()
        if before[part][device] != mark
    )
    if wrong:
        raise CorruptionError(
            f"step {step}, taken twice, came to other bits on {', '.join(sorted(wrong))}. Nothing "
            "was saved since. Where all devices are named an operation may be free to choose its "
            "order (XLA_FLAGS=--xla_gpu_deterministic_ops=true on GPUs); otherwise test or replace "
            "the host, and start again to go on from the newest checkpoint."
        )
    return after


def _bounds(index: slice, size: int) -> str:
    start, stop, _ = index.indices(size)
    return f"{start}:{stop}"
