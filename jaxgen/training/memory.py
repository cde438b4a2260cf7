"""The memory and disk that a run needs, and what there is, before they are taken."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax

from jaxgen.errors import ConfigError, DiskError, is_out_of_memory
from jaxgen.models.base import language_model
from jaxgen.models.parameters import named_parameters
from jaxgen.training.loading import abstract_batch
from jaxgen.training.offloading import is_on_host
from jaxgen.training.program import Program
from jaxgen.training.state import trained
from jaxgen.training.tracking import si

_SMALLER = (
    "Make the model smaller (model.vocab_size, .embed_dim, .num_layers), split it over more "
    "devices (mesh.fsdp, mesh.tensor), or take smaller microbatches (execution.accumulation)."
)


def check_memory(program: Program) -> None:
    """Checks that a step's state, gradient and rows fit the devices, or the host of CPU devices.

    Only what is needed for certain is counted: parameters, moments and averages as they are split
    over the mesh, one gradient, and, in the microbatch of a device, a layer's input for each layer
    (what even full rematerialisation keeps). A step needs more than that.

    Raises:
      ConfigError: saying what is needed and what there is.
    """
    available, what = _available(program.mesh)
    if available is None:
        return
    shards = len(program.mesh.local_devices) if _on_host(program.mesh) else 1
    state = program.abstract_state()
    # What is offloaded takes memory only where the devices' is the host's.
    leaves = jax.tree.leaves(state)
    counted = leaves if _on_host(program.mesh) else [x for x in leaves if not is_on_host(x)]
    held = shards * sum(map(bytes_of_shard, counted))
    gradient = shards * sum(
        bytes_of_shard(parameter.get_value())
        for _, parameter in named_parameters(trained(state.model))
    )
    rows = shards * _rows(program) // program.mesh.size
    needed = held + gradient + rows
    if needed > available:
        raise ConfigError(
            f"training needs {si(needed)}B at least (parameters and optimizer {si(held)}B, the "
            f"gradient {si(gradient)}B, the rows between layers {si(rows)}B), and {what} has "
            f"{si(available)}B: {si(needed - available)}B too much. {_SMALLER}"
        )


def check_disk(program: Program, folder: Path) -> None:
    """Checks that a disk has room for one checkpoint, before anything is trained for it.

    Raises:
      ConfigError, or where room can be made DiskError: saying what is needed and free.
    """
    leaves = jax.tree.leaves(program.abstract_state())
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    try:
        disk = shutil.disk_usage(folder)
    except OSError:  # Not every file system says.
        return
    if needed <= disk.free:
        return
    is_too_small = needed > disk.total
    error = ConfigError if is_too_small else DiskError
    raise error(
        f"a checkpoint needs {si(needed)}B (parameters and optimizer), and the disk of {folder} "
        f"has {si(disk.free)}B free of {si(disk.total)}B: {si(needed - disk.free)}B too little. "
        f"{'Name' if is_too_small else 'Make room, or name'} another --run_dir."
    )


def check_compiled_memory(program: Program, step: Any, batch_spec: Any, accumulation: int) -> None:
    """Checks that a step, as its compiler lays it out, fits; activations are known only then.

    Where the host's memory ends, no error comes: the system ends the process.

    Args:
      program: whose step it is.
      step: jitted; calling it later compiles it no second time.
      batch_spec: the shapes of the global batch.
      accumulation: microbatches of the step.

    Raises:
      ConfigError: saying what is needed and what there is.
    """
    mesh = program.mesh
    available, what = _available(mesh)
    if available is None:
        return
    batch = abstract_batch(batch_spec, mesh, program.execution.rules, accumulation)
    try:
        memory = step.lower(program.abstract_state(), batch).compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"the compiled step does not fit {what}: {error}\n{_SMALLER}") from error
    if memory is None:  # Not every platform's compiler says.
        return
    shards = len(mesh.local_devices) if _on_host(mesh) else 1
    arguments = shards * memory.argument_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    working = shards * (memory.temp_size_in_bytes + results)
    needed = arguments + working
    if needed > available:
        raise ConfigError(
            f"a step needs {si(needed)}B (parameters, optimizer and batch {si(arguments)}B, "
            f"gradient and activations {si(working)}B), and {what} has {si(available)}B: "
            f"{si(needed - available)}B too much. {_SMALLER}"
        )


def _rows(program: Program) -> int:
    """Returns the bytes of the inputs of all layers for a microbatch."""
    model: Any = language_model(program.model)
    width, layers = getattr(model, "embed_dim", 0), getattr(model, "num_layers", 0)
    return 4 * program.microbatch_size * program.train.length * width * layers


def bytes_of_shard(leaf: jax.ShapeDtypeStruct) -> int:
    """Returns the bytes of one device's shard of an array."""
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize


def _on_host(mesh: jax.sharding.Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def _available(mesh: jax.sharding.Mesh) -> tuple[int | None, str]:
    """Returns the bytes of memory that there are, and whose; None if nobody says."""
    device = mesh.devices.flat[0]
    if _on_host(mesh):
        try:
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):
            return None, ""
        return min(total, _control_group_limit() or total), "this machine"
    return (device.memory_stats() or {}).get("bytes_limit"), f"a device ({device.device_kind})"


def _control_group_limit() -> int | None:
    """Returns the bytes that a container may use; None without a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None
