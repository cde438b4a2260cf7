"""The layout of parameters in a file's tensor: one pattern of axes, read in both directions.

A pattern names the axes of a file's tensor; axes in parentheses are one axis of the file, the
first varying slowest: "(h w) d" is a matrix with a row for each component of each head. Where
parameters share a tensor, the axis "part" tells them apart: GPT-2 keeps queries, keys and values
as "d (part h w)", BLOOM, head by head, as "(h part w) d".
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

PART = "part"
Range = tuple[int, int]
Fetch = Callable[[tuple[slice, ...]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class FileLayout:
    """A parameter's axes, and those of the tensor that it is stored in.

    Attributes:
      axes: the parameter's, in our order, such as ("d", "h", "w").
      file: the tensor's; each is a group of our axes and perhaps PART.
    """

    axes: tuple[str, ...]
    file: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(axes: str, file: str) -> FileLayout:
        """Makes a layout from patterns such as "d h w" and "(h w) d"."""
        groups = re.findall(r"\(([^)]*)\)|(\S+)", file)
        layout = FileLayout(
            tuple(axes.split()), tuple(tuple((many or one).split()) for many, one in groups)
        )
        named = [axis for group in layout.file for axis in group if axis != PART]
        assert sorted(named) == sorted(layout.axes), f"{axes!r} and {file!r} differ in their axes"
        return layout

    def file_shape(self, shape: Sequence[int], parts: int = 1) -> tuple[int, ...]:
        """Returns the tensor's shape in the file, from a parameter's."""
        sizes = self._sizes(shape, parts)
        return tuple(math.prod(sizes[axis] for axis in group) for group in self.file)

    def read(
        self,
        fetch: Fetch,
        shape: Sequence[int],
        ranges: Sequence[Range],
        part: int = 0,
        parts: int = 1,
    ) -> np.ndarray:
        """Returns a block of a parameter, from the slice of the file that contains it.

        An axis of the file is sliced while reading by its first factor that is no single index, and
        after reading by the others; so "(h part w) d" reads whole heads.

        Args:
          fetch: maps slices of the tensor to its values.
          shape: the whole parameter's.
          ranges: the first index, and one past the last, along each of its axes.
          part: which of the parameters that share the tensor.
          parts: how many do.
        """
        sizes = self._sizes(shape, parts)
        within = dict(zip(self.axes, ranges, strict=True)) | {PART: (part, part + 1)}
        slices, read, cuts = [], [], []
        for group in self.file:
            start, stop, offsets = _covering([(sizes[axis], within[axis]) for axis in group])
            slices.append(slice(start, stop))
            read += [last - first for first, last in offsets]
            cuts += [
                slice(within[axis][0] - first, within[axis][1] - first)
                for axis, (first, _) in zip(group, offsets, strict=True)
            ]
        block = fetch(tuple(slices)).reshape(read)[tuple(cuts)]
        order = [axis for group in self.file for axis in group]
        if PART in order:
            block = np.squeeze(block, order.index(PART))
            order.remove(PART)
        return block.transpose([order.index(axis) for axis in self.axes])

    def write(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the file's tensor from all the whole parameters that share it."""
        order = [axis for group in self.file for axis in group]
        if PART in order:
            stacked, axes = np.stack(blocks), (PART, *self.axes)
        else:
            (stacked,), axes = blocks, self.axes
        shape = self.file_shape(blocks[0].shape, len(blocks))
        return stacked.transpose([axes.index(axis) for axis in order]).reshape(shape)

    def _sizes(self, shape: Sequence[int], parts: int) -> dict[str, int]:
        return dict(zip(self.axes, shape, strict=True)) | {PART: parts}


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
