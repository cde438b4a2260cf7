"""Which axes of a mesh a collective goes over, from the groups of devices in the program's text."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping

import numpy as np

_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTED = re.compile(r"\{\{([\d,{}]*)\}\}")
_NAMED_AXIS = re.compile(r"'(\w+)'=(\d+)")
_OVER = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")


def first_group(attributes: str, num_devices: int) -> tuple[int, ...]:
    """Returns the numbers of the devices in the first group of a collective.

    HLO writes groups one by one, `{{0,2},{1,3}}`, as a counted and transposed array,
    `[2,4]<=[4,2]T(1,0)`, or by the axes of a mesh, `mesh['a'=4,'b'=2] {'a'}`; no groups are all
    devices. Of a permutation it is the first pair whose ends differ.
    """
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", attributes)
    if pairs:
        ends = [tuple(map(int, pair)) for pair in re.findall(r"(\d+),(\d+)", pairs.group(1))]
        return next((pair for pair in ends if pair[0] != pair[1]), (0,))
    text = re.search(r"replica_groups=(.*)", attributes)
    text = "" if text is None else text.group(1)
    if text.startswith("mesh["):
        return _of_mesh(text)
    if iota := _IOTA.match(text):
        return tuple(_iota(*iota.groups())[0].tolist())
    if listed := _LISTED.match(text):
        return tuple(int(number) for number in listed.group(1).split("}")[0].split(","))
    return tuple(range(num_devices))


def axes_of(group: tuple[int, ...], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the axes along which the devices of a group lie apart; () of one device.

    Args:
      group: numbers of devices, as places in the mesh in row-major order.
      mesh: the size of every axis, in the mesh's order.
    """
    places = np.stack(np.unravel_index(np.array(group), tuple(mesh.values())))
    apart = (places != places[:, :1]).any(axis=1)
    return tuple(axis for axis, differs in zip(mesh, apart, strict=True) if differs)


@functools.cache
def _iota(sizes: str, counted: str, order: str | None) -> np.ndarray:
    shape = _numbers(counted)
    array = np.arange(math.prod(shape)).reshape(shape)
    if order is not None:
        array = array.transpose(_numbers(order))
    return array.reshape(_numbers(sizes))


@functools.cache
def _of_mesh(text: str) -> tuple[int, ...]:
    """Returns the first group of `mesh['a'=4,'b'=2], device_ids=([4,2]T(1,0)) {'a'}`.

    A part of an axis is written `'a':(2)4`: its 4 places that lie next to 2 major ones.
    """
    inside, _, rest = text.partition("]")
    sizes = {name: int(size) for name, size in _NAMED_AXIS.findall(inside)}
    array = np.arange(math.prod(sizes.values()))
    if ids := re.match(r",? device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", rest):
        array = array.reshape(_numbers(ids.group(1)))
        array = array.transpose(_numbers(ids.group(2))) if ids.group(2) else array
    array = array.reshape(tuple(sizes.values()))
    over = re.search(r"\{([^}]*)\}", rest)
    chosen: list[slice | int | np.ndarray] = [0] * len(sizes)
    for name, major, size in _OVER.findall(over.group(1) if over else ""):
        axis = list(sizes).index(name)
        if not size:
            chosen[axis] = slice(None)
        else:
            minor = sizes[name] // int(major) // int(size)
            chosen[axis] = slice(0, int(size) * minor, minor)
    return tuple(int(number) for number in array[tuple(chosen)].ravel())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
