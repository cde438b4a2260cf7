"""Bytes that an instruction moves to and from the main memory of a device."""

from __future__ import annotations

from jaxgen.planning.hlo import Computation, Instruction, Module

_FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "while",
        "conditional",
        "call",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "all-gather-done",
        "all-reduce-done",
        "collective-permute-done",
        "copy-done",
        "async-start",
        "async-done",
        "async-update",
        "add-dependency",
        "domain",
        "send-done",
        "recv",
    )
)
_PARTS = ("dynamic-slice", "slice", "gather")


def traffic_of(module: Module, computation: Computation, one: Instruction) -> int:
    """Returns the bytes that an instruction outside of fusions reads and writes in main memory.

    A fusion reads each operand once, of an operand that it only slices the slices, and writes its
    result; an update in place reads and writes the update alone.
    """
    if one.opcode in _FREE:
        return 0
    if one.opcode == "fusion":
        return _of_fusion(module.computations[one.called["calls"][0]], computation, one)
    if one.opcode in _PARTS:
        return 2 * _in_hbm(one)
    if one.opcode == "dynamic-update-slice":
        return 2 * _in_hbm(computation.operand(one, 1))
    return _in_hbm(one) + sum(
        _in_hbm(computation.instructions[name])
        for name in dict.fromkeys(one.operands)
        if name in computation.instructions
    )


def _of_fusion(inner: Computation, outer: Computation, one: Instruction) -> int:
    total = 0
    for number, parameter in inner.parameters.items():
        operand = outer.operand(one, number)
        if _in_hbm(operand):
            total += min(_in_hbm(operand), _read(inner, parameter))
    roots = [inner.root]
    if inner.root.opcode == "tuple":
        roots = [inner.operand(inner.root, index) for index in range(len(inner.root.operands))]
    written = [_written(inner, root) for root in roots]
    if len(written) != len(one.arrays):
        return total + _in_hbm(one)
    pairs = zip(written, one.arrays, strict=True)
    return total + sum(min(size, array.bytes) for size, array in pairs if array.in_hbm)


def _read(inner: Computation, parameter: Instruction) -> int:
    """Returns the bytes of a fusion's parameter that it reads."""
    total, users = 0, list(inner.users[parameter.name])
    while users:
        user = users.pop()
        if user.opcode == "bitcast":
            users += inner.users[user.name]
        elif user.opcode in _PARTS:
            total += user.bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
            continue  # What stays is not read.
        else:
            return parameter.bytes
    return total


def _written(inner: Computation, root: Instruction) -> int:
    while root.opcode in ("bitcast", "copy") and root.operands:
        root = inner.operand(root, 0)
    if root.opcode == "dynamic-update-slice":
        return inner.operand(root, 1).bytes
    return root.bytes


def _in_hbm(one: Instruction) -> int:
    return sum(array.bytes for array in one.arrays if array.in_hbm)
