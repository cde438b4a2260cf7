"""How often each loop of a module runs."""

from __future__ import annotations

from jaxgen.planning.hlo import Computation, Instruction, Module

_KNOWN = r'known_trip_count":\{"n":"(\d+)"'


def trip_count(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """Returns how often a `while` runs; None if that depends on data.

    The compiler for CPU notes it; of others it is what their condition says: a counter that begins
    with a constant, grows by one and is compared with a constant.
    """
    noted = loop.attribute(_KNOWN)
    if noted is not None:
        return int(noted)
    condition = module.computations[loop.called["condition"][0]]
    compared = _comparison(module, condition)
    if compared is None:
        return None
    direction, sides = compared
    counter, bound = sides
    if isinstance(counter, int) or direction not in ("LT", "LE"):
        return None
    first = _initial(caller, loop, counter[0])
    last = bound if isinstance(bound, int) else _initial(caller, loop, bound[0])
    if first is None or last is None:
        return None
    return max(0, last - first + (direction == "LE"))


_Side = int | tuple[int]
"""A constant, or the element of the loop's state that a side of a comparison is."""


def _comparison(module: Module, condition: Computation) -> tuple[str, tuple[_Side, _Side]] | None:
    """Returns the direction and the sides of the comparison that a condition is."""
    root, outer, binding = condition.root, condition, dict[str, Instruction]()
    if root.opcode == "fusion":
        inner = module.computations[root.called["calls"][0]]
        binding = {
            one.name: outer.operand(root, number) for number, one in inner.parameters.items()
        }
        root, condition = inner.root, inner
    direction = root.attribute(r"direction=(\w+)")
    if root.opcode != "compare" or direction is None:
        return None
    sides = [_side(condition.operand(root, index), binding) for index in (0, 1)]
    return None if None in sides else (direction, (sides[0], sides[1]))  # pyright: ignore[reportReturnType]


def _side(one: Instruction, binding: dict[str, Instruction]) -> _Side | None:
    one = binding.get(one.name, one)
    if one.opcode == "constant" and one.literal.lstrip("-").isdigit():
        return int(one.literal)
    if one.opcode == "get-tuple-element":
        index = one.attribute(r"index=(\d+)")
        return None if index is None else (int(index),)
    return None


def _initial(caller: Computation, loop: Instruction, index: int) -> int | None:
    """Returns the constant that an element of a loop's state begins with."""
    start = caller.operand(loop, 0)
    if start.opcode != "tuple":
        return None
    one = caller.operand(start, index)
    while one.opcode in ("copy", "bitcast") and one.operands:
        one = caller.operand(one, 0)
    literal = one.literal if one.opcode == "constant" else ""
    return int(literal) if literal.lstrip("-").isdigit() else None
