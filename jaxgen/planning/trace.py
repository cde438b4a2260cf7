"""What traced steps spent their time on, by kind of operation.

The trace says how long each instruction of the compiled step took; the step's text, kept beside it,
says what the instruction is. Loops and calls are left out: what they hold is counted itself.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from jaxgen.errors import CheckpointError
from jaxgen.planning.hlo import Instruction, Module, parse_module
from jaxgen.training.profiling import FOLDER, PROGRAM

CONTROL = {"while", "conditional", "call", "tuple", "parameter", "get-tuple-element", "bitcast"}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
KINDS = (
    ("matrix products", {"dot", "convolution", "ragged-dot"}),
    ("sorting", {"sort", "topk"}),
    ("gather and scatter", {"gather", "scatter", "dynamic-slice", "dynamic-update-slice"}),
    ("random numbers", {"rng", "rng-bit-generator"}),
    ("reductions", {"reduce", "reduce-window", "all-reduce-local"}),
)
"""The first kind with an opcode that an instruction holds is its kind."""
MOVING = {"copy", "transpose", "reshape", "concatenate", "slice", "pad", "reverse", "broadcast"}


@dataclasses.dataclass(frozen=True)
class Spent:
    """Time that instructions took.

    Attributes:
      name: of the kind, or of the instruction.
      seconds: of a step, of all devices that the trace has together.
      share: of the time of all instructions.
      count: executions in a step, likewise.
      operation: what the instruction is in the program; of a kind "".
    """

    name: str
    seconds: float
    share: float
    count: float
    operation: str = ""


@dataclasses.dataclass(frozen=True)
class Profile:
    """The time of traced steps.

    Attributes:
      folder: of the trace.
      steps: the first and the last.
      kinds: of operations, the longest first.
      longest: instructions, the longest first.
    """

    folder: pathlib.Path
    steps: tuple[int, int]
    kinds: tuple[Spent, ...]
    longest: tuple[Spent, ...]


def read_profile(run_dir: pathlib.Path, num_longest: int = 10) -> Profile:
    """Reads the newest trace of a run; of several processes the main one's.

    Raises:
      CheckpointError: if the run has none.
    """
    folders = sorted((run_dir / FOLDER).glob("*-*"))
    folders = [one for one in folders if (one / PROGRAM).exists()]
    if not folders:
        raise CheckpointError(
            f"{run_dir} has no traced steps; train with execution.profile_steps=(10, 13), which "
            "may be added to a run that has begun."
        )
    first, last = (int(part) for part in folders[-1].name.split("-"))
    module = parse_module((folders[-1] / PROGRAM).read_text())
    files = sorted(folders[-1].glob("plugins/profile/*/*.xplane.pb"))
    names = {name for one in module.computations.values() for name in one.instructions}
    kinds, single = _tables(module, _durations(files[-1:], names), last - first + 1)
    return Profile(folders[-1], (first, last), kinds, single[:num_longest])


def _durations(files: Sequence[pathlib.Path], names: set[str]) -> Mapping[str, tuple[float, int]]:
    """Returns the seconds and the executions of each instruction that a trace names."""
    from jax.profiler import ProfileData

    seconds: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.defaultdict(int)
    for file in files:
        for plane in ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    # TPUs name an event by the whole line of the instruction.
                    name = event.name.partition(" = ")[0].lstrip("%")
                    if name in names:
                        seconds[name] += event.duration_ns / 1e9
                        counts[name] += 1
    return {name: (seconds[name], counts[name]) for name in seconds}


def _tables(
    module: Module, spent: Mapping[str, tuple[float, int]], steps: int
) -> tuple[tuple[Spent, ...], tuple[Spent, ...]]:
    instructions = {
        name: one
        for computation in module.computations.values()
        for name, one in computation.instructions.items()
        if name in spent and one.opcode not in CONTROL
    }
    total = sum(spent[name][0] for name in instructions) or 1.0
    by_kind: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0])
    single = []
    for name, one in instructions.items():
        seconds, count = spent[name]
        kind = kind_of(module, one)
        by_kind[kind][0] += seconds
        by_kind[kind][1] += count
        what = one.attribute(r'op_name="([^"]*)"') or ""
        single.append(Spent(name, seconds / steps, seconds / total, count / steps, _short(what)))
    kinds = [
        Spent(kind, seconds / steps, seconds / total, count / steps)
        for kind, (seconds, count) in by_kind.items()
    ]
    return _longest(kinds), _longest(single)


def _longest(spent: Sequence[Spent]) -> tuple[Spent, ...]:
    return tuple(sorted(spent, key=lambda one: -one.seconds))


def kind_of(module: Module, one: Instruction) -> str:
    """Returns the kind of an instruction, by what it holds if it is a fusion."""
    base = re.sub(r"-(start|done|update)$", "", one.opcode)
    if base in COLLECTIVES:
        return base
    if one.opcode in ("custom-call", "fusion") and re.search(
        r"custom_call_target=\"[^\"]*(gemm|matmul|dot|conv)", one.attributes
    ):
        return "matrix products"
    if one.opcode == "custom-call":
        target = one.attribute(r'custom_call_target="([^"]*)"') or ""
        return "kernels" if re.search("tpu_custom_call|fmha|triton|mosaic", target) else "other"
    held = {base, *_opcodes(module, one)} if one.opcode == "fusion" else {base}
    for kind, opcodes in KINDS:
        if held & opcodes:
            return kind
    if held - {"fusion", "bitcast", "parameter", "constant", "tuple", "convert"} <= MOVING:
        return "copies and layouts"
    return "elementwise"


def _opcodes(module: Module, one: Instruction) -> Iterator[str]:
    for name in one.called.get("calls", ()):
        for inner in module.computations[name].instructions.values():
            yield inner.opcode
            yield from _opcodes(module, inner)


def _short(operation: str) -> str:
    """Returns the last parts of a name such as jit(train_step)/jvp(attend)/dot_general."""
    return "/".join(operation.split("/")[-3:])
