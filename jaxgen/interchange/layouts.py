"""The layout of parameters in a file's tensor: one pattern of axes, read in both directions.

A pattern names the axes of a file's tensor; axes in parentheses are one axis of the file, the
first varying slowest: "(h w) d" is a matrix with a row for each component of each head. Where
parameters share a tensor, the axis "part" tells them apart: GPT-2 keeps queries, keys and values
as "d (part h w)", BLOOM, head by head, as "(h part w) d". The parts may differ in size, as queries
and fewer keys do; a parameter's axis in parentheses, "d (n g) w", is then divided by what the
smallest part has of it: Falcon keeps each key head behind its group's queries, "(n part g w) d".
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

PART = "part"
Range = tuple[int, int]
Shape = Sequence[int]
Fetch = Callable[[tuple[slice, ...]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class FileLayout:
    """A parameter's axes, and those of the tensor that it is stored in.

    Attributes:
      axes: the parameter's, in our order, such as (("d",), ("h",), ("w",)).
      file: the tensor's; each is a group of our axes and perhaps PART.
    """

    axes: tuple[tuple[str, ...], ...]
    file: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(axes: str, file: str) -> FileLayout:
        """Makes a layout from patterns such as "d h w" and "(h w) d"."""
        layout = FileLayout(_groups(axes), _groups(file))
        named = [axis for group in layout.file for axis in group if axis != PART]
        ours = [axis for group in layout.axes for axis in group]
        assert sorted(named) == sorted(ours), f"{axes!r} and {file!r} differ in their axes"
        return layout

    def file_shape(self, shapes: Sequence[Shape]) -> tuple[int, ...]:
        """Returns the tensor's shape in the file, from those of the parameters that share it."""
        sizes = [self._sizes(shapes, part) for part in range(len(shapes))]
        return tuple(
            _size(before, sizes[0])
            * (1 if after is None else sum(_size(after, of_part) for of_part in sizes))
            for before, after in map(_split, self.file)
        )

    def read(
        self, fetch: Fetch, shapes: Sequence[Shape], ranges: Sequence[Range], part: int = 0
    ) -> np.ndarray:
        """Returns a block of a parameter, from the slice of the file that contains it.

        An axis of the file is sliced while reading by its first factor that is no single index, and
        after reading by the others; so "(h part w) d" reads whole heads.

        Args:
          fetch: maps slices of the tensor to its values.
          shapes: of the parameters that share the tensor.
          ranges: the first index, and one past the last, along each of this parameter's axes.
          part: which of them it is.
        """
        of_parts = [self._sizes(shapes, number) for number in range(len(shapes))]
        sizes = of_parts[part]
        within, last_cuts = self._within(sizes, ranges)
        slices, read, cuts, inner_read, inner_cuts = [], [], [], [], []
        for before, after in map(_split, self.file):
            factors = [(sizes[axis], within[axis]) for axis in before]
            start, stop, inner = _covering([(sizes[axis], within[axis]) for axis in after or ()])
            if after is not None:
                lengths = [_size(after, of_part) for of_part in of_parts]
                first = sum(lengths[:part])
                factors.append((sum(lengths), (first + start, first + stop)))
            start, stop, outer = _covering(factors)
            slices.append(slice(start, stop))
            read += [last - first for first, last in outer]
            cuts += [
                slice(low - first, high - first)
                for (_, (low, high)), (first, _) in zip(factors, outer, strict=True)
            ]
            inner_read += [within[axis][1] - within[axis][0] for axis in before]
            inner_cuts += [slice(None)] * len(before)
            inner_read += [last - first for first, last in inner]
            inner_cuts += [
                slice(within[axis][0] - first, within[axis][1] - first)
                for axis, (first, _) in zip(after or (), inner, strict=True)
            ]
        block = fetch(tuple(slices)).reshape(read)[tuple(cuts)]
        block = block.reshape(inner_read)[tuple(inner_cuts)]
        block = block.transpose([self._order.index(axis) for group in self.axes for axis in group])
        merged = [math.prod(within[a][1] - within[a][0] for a in group) for group in self.axes]
        return block.reshape(merged)[last_cuts]

    def write(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the file's tensor from all the whole parameters that share it."""
        shapes = [block.shape for block in blocks]
        axes = [axis for group in self.axes for axis in group]
        laid, place = [], 0
        for part, block in enumerate(blocks):
            sizes, split = self._sizes(shapes, part), []
            for before, after in map(_split, self.file):
                split.append(_size(before, sizes))
                if after is not None:
                    place = len(split)
                    split.append(_size(after, sizes))
            block = block.reshape([sizes[axis] for axis in axes])
            laid.append(block.transpose([axes.index(axis) for axis in self._order]).reshape(split))
        whole = np.concatenate(laid, axis=place) if len(laid) > 1 else laid[0]
        return whole.reshape(self.file_shape(shapes))

    @property
    def _order(self) -> list[str]:
        """Returns our axes in the order of the file."""
        return [axis for group in self.file for axis in group if axis != PART]

    def _sizes(self, shapes: Sequence[Shape], part: int) -> dict[str, int]:
        sizes = {}
        for place, (outer, *inner) in enumerate(self.axes):
            sizes[outer] = shapes[part][place]
            if inner:
                sizes[outer] = min(shape[place] for shape in shapes)
                sizes[inner[0]] = shapes[part][place] // sizes[outer]
        return sizes

    def _within(
        self, sizes: dict[str, int], ranges: Sequence[Range]
    ) -> tuple[dict[str, Range], tuple[slice, ...]]:
        """Returns ranges of single axes that cover those of ours, and what to cut from these."""
        within, cuts = {}, []
        for (outer, *inner), (first, last) in zip(self.axes, ranges, strict=True):
            within[outer], base = (first, last), first
            if inner:
                size = sizes[inner[0]]
                within[outer], within[inner[0]] = (first // size, -(-last // size)), (0, size)
                base = first // size * size
            cuts.append(slice(first - base, last - base))
        return within, tuple(cuts)


def _groups(pattern: str) -> tuple[tuple[str, ...], ...]:
    found = re.findall(r"\(([^)]*)\)|(\S+)", pattern)
    return tuple(tuple((many or one).split()) for many, one in found)


def _split(group: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Returns the axes before PART and those after it, None where it is not there."""
    if PART not in group:
        return group, None
    place = group.index(PART)
    return group[:place], group[place + 1 :]


def _size(axes: tuple[str, ...], sizes: dict[str, int]) -> int:
    return math.prod(sizes[axis] for axis in axes)


def _covering(factors: list[tuple[int, Range]]) -> tuple[int, int, list[Range]]:
    """Returns the shortest contiguous range of a flattened axis that covers each factor's range.

    Returns:
      Its start and stop, and the range of each factor inside it.
    """
    start, length, held = 0, 1, []
    is_single = True
    for size, (first, last) in factors:
        if not is_single:
            first, last = 0, size
        start = start * size + first
        length *= last - first
        held.append((first, last))
        is_single = is_single and last - first == 1
    return start, start + length, held
