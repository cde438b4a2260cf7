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
        "async-start",
        "async-update",
        "add-dependency",
        "domain",
        "recv",
    )
)
_PARTS = ("dynamic-slice", "slice", "gather")


def traffic_of(module: Module, computation: Computation, one: Instruction) -> int:
    """Returns the bytes that an instruction outside of fusions reads and writes in main memory.

    A fusion reads each operand once, of an operand that it only slices the slices, and writes its
    result; an update in place reads and writes the update alone.
    """
    if one.opcode in _FREE or one.opcode.endswith("-done"):
        return 0
    if one.opcode.endswith("-start") or one.opcode == "send":
        return _of_start(computation, one)
    if one.opcode == "fusion":
        return _of_fusion(module, computation, one)
    if one.opcode in _PARTS:
        return 2 * _in_hbm(one)
    if one.opcode == "dynamic-update-slice":
        return 2 * _in_hbm(computation.operand(one, 1))
    return _in_hbm(one) + sum(
        _in_hbm(computation.instructions[name])
        for name in dict.fromkeys(one.operands)
        if name in computation.instructions
    )


def _of_start(computation: Computation, one: Instruction) -> int:
    """Returns the traffic of what is done in the background: its operand, or a slice, is copied.

    The result is the operand and what it is copied to, in either order; what is sent is not copied.
    """
    operands = [array for name in one.operands for array in computation.instructions[name].arrays]
    copies = list(one.arrays)
    for array in operands:
        if array in copies:
            copies.remove(array)
    copies = [array for array in copies if array.sizes]
    read = sum(array.bytes for array in operands)
    if copies:
        read = min(read, sum(array.bytes for array in copies))
    from_hbm = read if any(array.in_hbm for array in operands) else 0
    return from_hbm + sum(array.bytes for array in copies if array.in_hbm)


def _of_fusion(module: Module, outer: Computation, one: Instruction) -> int:
    inner = module.computations[one.called["calls"][0]]
    total = 0
    for number, parameter in inner.parameters.items():
        operand = outer.operand(one, number)
        if _in_hbm(operand):
            total += min(_in_hbm(operand), _read(module, inner, parameter))
    roots = [inner.root]
    if inner.root.opcode == "tuple":
        roots = [inner.operand(inner.root, index) for index in range(len(inner.root.operands))]
    written = [_written(module, inner, root) for root in roots]
    if len(written) != len(one.arrays):
        return total + _in_hbm(one)
    pairs = zip(written, one.arrays, strict=True)
    return total + sum(min(size, array.bytes) for size, array in pairs if array.in_hbm)


def _read(module: Module, inner: Computation, value: Instruction) -> int:
    """Returns the bytes of a fusion's value that its users read."""
    total = 0
    for user in inner.users[value.name]:
        if user.opcode == "bitcast":
            total += _read(module, inner, user)
        elif user.opcode in _PARTS and user.operands[0] == value.name:
            total += user.bytes
        elif user.opcode == "fusion":
            nested = module.computations[user.called["calls"][0]]
            for number, name in enumerate(user.operands):
                if name == value.name:
                    total += _read(module, nested, nested.parameters[number])
        elif user.opcode != "dynamic-update-slice" or user.operands[0] != value.name:
            return value.bytes  # Of what is updated in place, what stays is not read.
    return min(total, value.bytes)


def _written(module: Module, inner: Computation, root: Instruction) -> int:
    while root.opcode in ("bitcast", "copy") and root.operands:
        root = inner.operand(root, 0)
    if root.opcode == "dynamic-update-slice":
        return inner.operand(root, 1).bytes
    if root.opcode == "fusion" and len(root.arrays) == 1:
        nested = module.computations[root.called["calls"][0]]
        return min(root.bytes, _written(module, nested, nested.root))
    return root.bytes


def _in_hbm(one: Instruction) -> int:
    return sum(array.bytes for array in one.arrays if array.in_hbm)
