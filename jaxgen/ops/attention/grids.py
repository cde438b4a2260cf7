"""Masks over the places of a picture: rows, columns and neighbourhoods (DALL-E, 2102.12092, B.1).

A token of text sees and is seen as the layer's other predicates say; so a causal layer with one of
these has text that reads all before it, and codes that read all text before them and some codes of
their own picture. Of a code nothing is asked but its place, so the mask of a row whose pictures are
placed anywhere is the same for keys in a cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError
from jaxgen.ops.attention.masks import AttentionSide, Bidirectional, Composable


class Codes(NamedTuple):
    """Where the tokens of a side lie, [batch, length]; of text it means nothing.

    Attributes:
      is_code: bool, whether a token is of the medium that a mask is for.
      first: the position of its picture's first code, which tells pictures apart.
      index: its number in raster order.
      column: its column.
    """

    is_code: Any
    first: Any
    index: Any
    column: Any


@dataclasses.dataclass(frozen=True)
class GridMask(Composable):
    """A rule for which codes of its own picture a code sees; all else is allowed.

    Attributes:
      height: rows of the picture's grid.
      width: its columns.
      modality: the number of the codes' medium among those of the codec, from 1; codes of others
        are seen as text is.
    """

    height: PositiveInt
    width: PositiveInt
    modality: PositiveInt = 1

    NAME: ClassVar[str] = "grid_mask"
    reads_cells = True

    def __post_init__(self):
        check_domains(self, self.NAME)

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        if queries.cells is None or keys.cells is None:  # All is text.
            return Bidirectional().allows(queries, keys)
        code, other, of_one = self._of_one(queries, keys)
        return ~of_one | self.sees(code, other)

    def _of_one(self, queries: AttentionSide, keys: AttentionSide) -> tuple[Codes, Codes, Any]:
        """Returns the queries' codes, the keys', and which are of one picture."""
        code = jax.tree.map(lambda x: x[:, :, None], self._codes(queries))
        other = jax.tree.map(lambda x: x[:, None, :], self._codes(keys))
        return code, other, code.is_code & other.is_code & (code.first == other.first)

    def sees(self, code: Codes, other: Codes) -> Any:
        """Returns whether a code sees another one of its picture, of arrays that broadcast."""
        raise NotImplementedError

    def _codes(self, side: AttentionSide) -> Codes:
        modality, time, row, column = (side.cells[..., axis] for axis in range(4))
        index = (time * self.height + row) * self.width + column
        return Codes(modality == self.modality, side.positions - index, index, column)


@dataclasses.dataclass(frozen=True)
class SamePicture(GridMask):
    """All of the token's own picture, before and after it, and nothing else (Gemma 3, 2503.19786).

    Beside a causal mask, `either.predicates = (@causal(), @same_picture())`, text goes on reading
    what lies before it and pictures see themselves both ways.
    """

    NAME = "same_picture"

    def allows(self, queries: AttentionSide, keys: AttentionSide) -> jax.Array:
        if queries.cells is None or keys.cells is None:  # All is text.
            return ~Bidirectional().allows(queries, keys)
        return self._of_one(queries, keys)[2]


@dataclasses.dataclass(frozen=True)
class GridRow(GridMask):
    """Codes of as many places back in raster order as a row has, and the code's own.

    The farthest is that in the same column of the row before (2102.12092, figure 11a).
    """

    NAME = "grid_row"

    def sees(self, code: Codes, other: Codes) -> Any:
        behind = code.index - other.index
        return (behind >= 0) & (behind <= self.width)


@dataclasses.dataclass(frozen=True)
class GridColumn(GridMask):
    """Codes of the code's own column up to it, those of earlier frames too (figure 11b)."""

    NAME = "grid_column"

    def sees(self, code: Codes, other: Codes) -> Any:
        return (code.column == other.column) & (code.index >= other.index)


@dataclasses.dataclass(frozen=True)
class GridNeighbourhood(GridMask):
    """Codes up to the code's own in a square around it, which wraps around at the edges.

    A place beyond the end of a row is the one that follows in raster order, as it is for rows
    (figure 11d).

    Attributes:
      kernel: rows and columns of the square; odd.
    """

    kernel: PositiveInt = 11

    NAME = "grid_neighbourhood"

    def __post_init__(self):
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ConfigError(f"grid_neighbourhood.kernel={self.kernel} must be odd.")

    def sees(self, code: Codes, other: Codes) -> Any:
        reach, behind = self.kernel // 2, code.index - other.index
        # As many rows up as the square allows, so that what is left is nearest to the column.
        rows = jnp.minimum((behind + reach) // self.width, reach)
        return (behind >= 0) & (behind - rows * self.width <= reach)


def grid_masks(layers: Iterable[Any]) -> Iterator[GridMask]:
    """Yields the masks over grids among those of layers, within others too."""
    for layer in layers:
        waiting = list(layer.mask)
        while waiting:
            predicate = waiting.pop()
            if isinstance(predicate, GridMask):
                yield predicate
            elif dataclasses.is_dataclass(predicate):
                inside = [getattr(predicate, one.name) for one in dataclasses.fields(predicate)]
                waiting += [one for one in inside if getattr(one, "reads_cells", False)]
                waiting += [a for one in inside if isinstance(one, tuple) for a in one]
