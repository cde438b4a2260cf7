"""Compiles a run's step ahead of time, for devices that need not be here."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from jaxgen.errors import is_out_of_memory
from jaxgen.planning.buffers import Buffer, largest_values, saved_activations
from jaxgen.training.program import Program

_SUFFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled step, or what its compiler says of its memory if it does not fit.

    Attributes:
      seconds: that the compilation took.
      text: of the optimised HLO module; None if it does not fit.
      arguments: bytes of a device's arguments.
      temporaries: bytes of what is there only while the step runs.
      results: bytes of results that are in no argument's place.
      code: bytes of the program itself.
      needed: bytes of all that; None if the compiler does not say.
      activations: bytes that scans over layers keep for the backward pass; among the temporaries.
      largest: the largest arrays: those that the compiler lists of a program that it refuses, else
        those of the traced program.
    """

    seconds: float
    text: str | None
    arguments: int = 0
    temporaries: int = 0
    results: int = 0
    code: int = 0
    needed: int | None = None
    activations: int = 0
    largest: tuple[Buffer, ...] = ()


def compile_train_step(program: Program, batch: Any, accumulation: int = 1) -> Compiled:
    """Compiles a run's step.

    Args:
      program: on the devices to compile for.
      batch: as `training.loading.abstract_batch` lays it out.
      accumulation: microbatches of the step.
    """
    step: Any = program.train_step(accumulation)
    return compile_step(program.mesh, step, program.abstract_state(), batch)


def compile_step(mesh: jax.sharding.Mesh, step: Any, *arguments: Any) -> Compiled:
    """Compiles a jitted function for arguments of these shapes; nothing is put on the devices."""
    begun = time.monotonic()
    # The devices are described only: a mesh of them may not be set.
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        traced = step.trace(*arguments)
        activations = saved_activations(traced.jaxpr, mesh)
        largest = largest_values(traced.jaxpr, mesh)
        lowered = traced.lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
        seconds = time.monotonic() - begun
        largest, said = listed_buffers(message) or largest, memory_in(message)
        return Compiled(seconds, None, activations=activations, largest=largest, **said)
    seconds = time.monotonic() - begun
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    parts = (memory.argument_size_in_bytes, memory.temp_size_in_bytes, results)
    code = memory.generated_code_size_in_bytes
    needed = sum(parts) + code
    return Compiled(seconds, compiled.as_text(), *parts, code, needed, activations, largest)


def memory_in(message: str) -> dict[str, int]:
    """Returns what a compiler's message says that a program that does not fit needs, in bytes.

    It is all of it ("needed"), or what is there only while the program runs ("temporaries").
    """
    forms = {
        "needed": r"Used ([\d.]+)([KMGT]?) of",
        "temporaries": r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds",
    }
    found = {name: re.search(form, message) for name, form in forms.items()}
    return {name: _bytes(*one.groups()) for name, one in found.items() if one is not None}


def listed_buffers(message: str) -> tuple[Buffer, ...]:
    """Returns the buffers that the compiler's message lists, the largest first; () of none."""
    buffers = []
    for entry in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
        size = re.match(r"([\d.]+)([KMGT]?)", entry)
        shape = re.search(r"Shape: (\S+)", entry)
        name = re.search(r'op_name="([^"]*)"', entry)
        if size:
            operation = name.group(1) if name else ""
            buffers.append(
                Buffer(_bytes(*size.groups()), shape.group(1) if shape else "", operation)
            )
    return tuple(sorted(buffers, key=lambda one: -one.bytes))


def _bytes(number: str, suffix: str) -> int:
    return round(float(number) * _SUFFIXES[suffix])
