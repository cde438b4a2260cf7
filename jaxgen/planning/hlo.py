"""Reads the text of an optimised HLO module, of any backend, into computations of instructions."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(.*\) -> .*)? \{$")
_NAME = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(calls|to_apply|body|condition|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_BITS = re.compile(r"\d+")
_HOST_MEMORY = 5


@dataclasses.dataclass(frozen=True)
class Array:
    """The type of an array.

    Attributes:
      dtype: as HLO writes it, such as "bf16".
      sizes: its dimensions.
      space: the number of the memory that holds it; 0 is the device's main memory.
    """

    dtype: str
    sizes: tuple[int, ...]
    space: int = 0

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """The bytes of the elements, without padding."""
        return self.elements * _bits(self.dtype) // 8

    @property
    def in_hbm(self) -> bool:
        """Whether the array is in the device's main memory."""
        return self.space == 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: unique in the module.
      opcode: such as "fusion".
      arrays: those of the result, of a nested tuple one by one.
      operands: names of the operands.
      literal: what stands between the parentheses, such as the value of a constant.
      attributes: what follows them.
      is_root: whether its result is the computation's.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    literal: str
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """The bytes of the result."""
        return sum(array.bytes for array in self.arrays)

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """The computations that it calls, by the attribute that names them."""
        return {
            kind: tuple(re.findall(r"[\w.\-]+", names))
            for kind, names in _CALLED.findall(self.attributes)
        }

    def attribute(self, pattern: str) -> str | None:
        """Returns the first group of a pattern in the attributes; None without a match."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Computation:
    """A computation: its instructions by name, in order."""

    name: str
    instructions: Mapping[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return next(one for one in self.instructions.values() if one.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """The parameters by number."""
        return {
            int(one.literal): one
            for one in self.instructions.values()
            if one.opcode == "parameter" and one.literal.isdigit()
        }

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read each one."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for one in self.instructions.values():
            for operand in dict.fromkeys(one.operands):
                if operand in users:
                    users[operand].append(one)
        return users

    def operand(self, instruction: Instruction, index: int) -> Instruction:
        """Returns the instruction that gives an operand."""
        return self.instructions[instruction.operands[index]]


@dataclasses.dataclass(frozen=True)
class Module:
    """A module: its computations by name, and the name of the entry."""

    computations: Mapping[str, Computation]
    entry: str


def parse_module(text: str) -> Module:
    """Returns the module that a text is, such as that of `compiled.as_text()`."""
    computations, entry = {}, ""
    name, instructions = "", dict[str, Instruction]()
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            name, instructions = header.group(2), {}
            computations[name] = Computation(name, instructions)
            entry = name if header.group(1) else entry
        elif name and (one := _instruction(line)) is not None:
            instructions[one.name] = one
    return Module(computations, entry)


def arrays_in(text: str) -> tuple[Array, ...]:
    """Returns the arrays of a type as HLO writes it, of a tuple one by one."""
    found = []
    for dtype, sizes, layout in _ARRAY.findall(text):
        space = _SPACE.search(layout)
        shape = tuple(int(size) for size in sizes.split(",") if size)
        found.append(Array(dtype, shape, int(space.group(1)) if space else 0))
    return tuple(found)


def _instruction(line: str) -> Instruction | None:
    head = _NAME.match(line)
    if head is None:
        return None
    rest = line[head.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opcode, parenthesis, _ = rest.partition("(")
    if not parenthesis:
        return None
    close = _closing(rest, len(opcode))
    inside, attributes = rest[len(opcode) + 1 : close], rest[close + 1 :]
    return Instruction(
        name=head.group(2),
        opcode=opcode,
        arrays=arrays_in(shape),
        operands=tuple(_operands(inside)) if opcode != "constant" else (),
        literal=inside,
        attributes=attributes,
        is_root=head.group(1) is not None,
    )


def _operands(inside: str) -> Iterator[str]:
    named = _OPERAND.findall(inside)
    if named:
        yield from named
        return
    for part in re.sub(r"/\*.*?\*/", "", inside).split(","):
        # Some printers leave out the sign of a name, and write the type before it.
        word = part.strip().split(" ")[-1]
        if re.fullmatch(r"[A-Za-z_][\w.\-]*", word):
            yield word


def _closing(text: str, start: int) -> int:
    """Returns the place of the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "(":
            depth += 1
        elif text[place] == ")":
            depth -= 1
            if not depth:
                return place
    return len(text)


@functools.cache
def _bits(dtype: str) -> int:
    if dtype == "pred":
        return 8
    found = _BITS.search(dtype)
    return int(found.group()) if found else 0
